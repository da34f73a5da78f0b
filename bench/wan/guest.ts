/**
 * A guest of a volunteer: booted by `rowan run`, as a user would, and timed by what it says on its console.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryFolder } from '../../test/tools/folders.ts'
import { type Peer, ROWAN } from '../../test/tools/peers.ts'
import { start } from '../../test/tools/processes.ts'

export const MEMORY_MB = 1024
export const BOOT_TIMEOUT_MS = 400_000
/** The last line of the appliance's boot: it has done its piece of work. */
export const READY = /APPLIANCE-WORK/
const POLL_MS = 20

export interface Boot {
  /** From `rowan run` to the guest's word. */
  wallSeconds: number
}

/**
 * Boots a machine, or a new one of an appliance, and ends it as soon as it is ready.
 *
 * @param target - what `rowan run` takes
 * @param meanwhile - called again and again while it boots
 * @param atReady - called when it is ready, before it is ended: what is fetched for its next start comes after that
 */
export async function bootGuest(
  peer: Peer,
  target: string,
  machine: string,
  meanwhile: () => Promise<void> | void = () => undefined,
  atReady: () => Promise<void> | void = () => undefined
): Promise<Boot> {
  const console = `${await temporaryFolder()}/console`
  const startMs = performance.now()
  // Never KVM: whether it is there, and how fast it is, would be what is measured.
  const qemu = ['-accel', 'tcg,thread=multi', '-m', String(MEMORY_MB), '-serial', `file:${console}`]
  const args = ['run', target, ...(target === machine ? [] : ['--as', machine]), '--home', peer.home, '--', ...qemu]
  const guest = start(ROWAN, args, { name: 'rowan run' })
  try {
    while (!READY.test(consoleText(console))) {
      if (guest.exit !== undefined) throw new Error(`the guest left before it was ready\n${guest.tail()}`)
      if (performance.now() - startMs > BOOT_TIMEOUT_MS) {
        throw new Error(`the guest was not ready in ${BOOT_TIMEOUT_MS / 1000} s\n${consoleText(console).slice(-500)}`)
      }
      await meanwhile()
      await sleep(POLL_MS)
    }
    const wallSeconds = (performance.now() - startMs) / 1000
    await atReady()
    return { wallSeconds }
  } finally {
    await guest.stop('SIGTERM')
  }
}

function consoleText(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    // QEMU has not started yet.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}
