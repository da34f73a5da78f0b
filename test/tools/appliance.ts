/**
 * The Debian appliance for tests, where it can be built: root, loop devices, and the packages of .ci/run.
 *
 * Built once into a folder that later runs reuse: $ROWAN_APPLIANCES, or .appliances/ of the checkout. The build script
 * holds a lock, so two test files do not build twice.
 */
import { accessSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runOk } from './processes.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const BUILD_TIMEOUT_MS = 600_000

export interface DebianAppliance {
  v1: string
  v2: string
}

function folder(): string {
  return process.env.ROWAN_APPLIANCES ?? join(ROOT, '.appliances')
}

/** Whether the appliance is here or can be made: a test that needs it is skipped otherwise. */
export function debianCanBeHad(): boolean {
  if (existsSync(join(folder(), '.complete'))) return true
  if (process.getuid?.() !== 0) return false
  try {
    accessSync('/dev/loop-control')
    return true
  } catch {
    return false // no loop devices in this container
  }
}

/** Builds the two versions, or finds them. Never write to them. */
export async function debianAppliance(): Promise<DebianAppliance> {
  const script = join(ROOT, 'examples/debian/build-debian.sh')
  await runOk('bash', [script, folder()], { name: 'build-debian.sh', timeoutMs: BUILD_TIMEOUT_MS })
  return { v1: join(folder(), 'grid-v1.raw'), v2: join(folder(), 'grid-v2.raw') }
}
