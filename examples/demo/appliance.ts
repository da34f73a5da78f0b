/**
 * The disk that the demo publishes: the user's own, or the Debian appliance, built once and kept.
 */
import { existsSync, statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DemoError, runChild } from './children.ts'
import { Bar, formatBytes, say, step } from './progress.ts'
import { rootPrefix } from './tools.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const BUILD_SCRIPT = join(ROOT, 'examples/debian/build-debian.sh')

/** What the build script prints first in each stage, with the share of the time done by then and a usual duration. */
const STAGES = [
  { start: '0/4', says: 'tools', done: 0, seconds: 10 },
  { start: '1/4', says: 'downloading and unpacking Debian', done: 0.05, seconds: 25 },
  { start: '2/4', says: 'making the disk', done: 0.5, seconds: 10 },
  { start: '3/4', says: 'boot loader', done: 0.7, seconds: 3 },
  { start: '4/4', says: 'upgrading a copy (version 2)', done: 0.75, seconds: 25 }
]

export interface Appliance {
  name: string
  file: string
  sizeBytes: number
  /** Whether it says APPLIANCE-READY on its console. */
  speaks: boolean
  /** Blocks that a boot touches, as measured; unknown for a user's own image. */
  bootBlocks: number | undefined
}

/** The folder of built appliances: $ROWAN_APPLIANCES, or .appliances in the checkout. */
export function appliancesFolder(): string {
  return resolve(process.env.ROWAN_APPLIANCES ?? join(ROOT, '.appliances'))
}

export function debianIsBuilt(): boolean {
  return existsSync(join(appliancesFolder(), '.complete'))
}

/** @throws DemoError if there is no such file */
export function ownImage(path: string): Appliance {
  const file = resolve(process.env.INIT_CWD ?? process.cwd(), path)
  if (!existsSync(file)) throw new DemoError(`there is no image ${file}`)
  return { name: 'mine', file, sizeBytes: statSync(file).size, speaks: false, bootBlocks: undefined }
}

/** Builds the Debian appliance unless it is here. @throws DemoError */
export async function debianAppliance(): Promise<Appliance> {
  const folder = appliancesFolder()
  if (!debianIsBuilt()) await build(folder)
  else say(`Using the appliance that was built before: ${folder}`)
  const file = join(folder, 'grid-v1.raw')
  return { name: 'grid', file, sizeBytes: statSync(file).size, speaks: true, bootBlocks: 1382 }
}

async function build(folder: string): Promise<void> {
  const root = await rootPrefix()
  if (root === undefined) {
    throw new DemoError(
      `building the appliance needs root (loop devices, mount). Run it once as root:\n\n` +
        `  sudo ${BUILD_SCRIPT} ${folder}\n\nor bring a disk of your own: npm run demo -- --image FILE`
    )
  }
  step('Building a Debian appliance (a minute or two, only the first time)')
  await mkdir(folder, { recursive: true })
  const bar = new Bar()
  let stage = STAGES[0]
  let stageStarted = performance.now()
  // Within a stage the bar creeps by the usual time, and never past the stage's end.
  const redraw = setInterval(() => {
    if (stage === undefined) return
    const end = STAGES[STAGES.indexOf(stage) + 1]?.done ?? 1
    const share = Math.min(1, (performance.now() - stageStarted) / 1000 / stage.seconds)
    bar.update(stage.done + (end - stage.done) * share, stage.says)
  }, 200)
  try {
    const [file = '', ...args] = [...root, 'bash', BUILD_SCRIPT, folder]
    await runChild(file, args, {
      logFile: join(folder, 'build.log'),
      onLine: line => {
        const next = STAGES.find(({ start }) => line.startsWith(start))
        if (next === undefined) return
        stage = next
        stageStarted = performance.now()
      }
    })
  } catch (error) {
    bar.break()
    throw error
  } finally {
    clearInterval(redraw)
  }
  bar.end(`${folder}/grid-v1.raw, ${formatBytes(statSync(join(folder, 'grid-v1.raw')).blocks * 512)} on disk`)
}
