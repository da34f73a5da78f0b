/**
 * Boots the volunteer's machine with `rowan run` and watches it come up.
 *
 * An appliance that prints APPLIANCE-READY and APPLIANCE-WORK says itself when it is done. Any other image is ready
 * when its disk has gone quiet: no block fetched and nothing printed for a while.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { MachineStatus } from '../../src/node/command-results.ts'
import type { Appliance } from './appliance.ts'
import { DemoError, endChild, startChild } from './children.ts'
import { type DemoPeer, ROWAN } from './peers.ts'
import { Bar, formatBytes, say } from './progress.ts'

const BOOT_TIMEOUT_MS = 300_000
const POLL_MS = 500
/** A disk without fetches for this long is quiet; an image of one's own gets at least this long to start. */
const QUIET_MS = 15_000
const MIN_WATCH_MS = 30_000
const MAX_DETAIL_CHARS = 60

export interface BootOutcome {
  /** From `rowan run` to APPLIANCE-READY, or to the disk's last fetch. */
  readyMs: number
  /** How the end was noticed, for a person. */
  noticed: string
  consoleFile: string
}

/** @throws DemoError when the guest leaves or stays silent */
export async function bootMachine(
  volunteer: DemoPeer,
  machine: string,
  appliance: Appliance,
  options: { folder: string; kvm: boolean; bootBlocks: number }
): Promise<BootOutcome> {
  const { folder, kvm, bootBlocks } = options
  const consoleFile = join(folder, 'console.log')
  const pidFile = join(folder, 'qemu.pid')
  // Without acceleration unless asked for: it works everywhere, and a nested /dev/kvm can be ten times slower.
  const accel = kvm ? [] : ['-accel', 'tcg,thread=multi']
  const args = ['run', machine, '--', ...accel, '-serial', `file:${consoleFile}`, '-pidfile', pidFile]
  say(`$ ${volunteer.typed(args)}`)
  const started = performance.now()
  const run = startChild(ROWAN, ['--json', '--home', volunteer.home, ...args], {
    logFile: join(folder, 'run.log')
  })
  let left: number | undefined
  void run.left.then(status => {
    left = status
  })
  const bar = new Bar()
  let readyMs: number | undefined
  let lastBlocks = -1
  let lastChangeMs = started
  let consoleBytes = 0
  try {
    for (;;) {
      await sleep(POLL_MS)
      const now = performance.now()
      const console_ = readConsole(consoleFile)
      const status = await machineStatus(volunteer, machine)
      const { blocks, bytes } = status.fetched
      if (readyMs === undefined && console_.includes('APPLIANCE-READY')) readyMs = now - started
      if (blocks !== lastBlocks || console_.length !== consoleBytes) {
        lastBlocks = blocks
        consoleBytes = console_.length
        lastChangeMs = now
      }
      bar.update(blocks / bootBlocks, `${blocks} blocks, ${formatBytes(bytes)} fetched  ${lastLine(console_)}`)

      if (readyMs !== undefined && console_.includes('APPLIANCE-WORK')) {
        bar.end('the guest is ready and has done its work')
        return { readyMs, noticed: 'the guest said so on its console', consoleFile }
      }
      if (!appliance.speaks && now - started > MIN_WATCH_MS && now - lastChangeMs > QUIET_MS) {
        bar.end('the disk of the guest has gone quiet')
        const noticed = `its disk has been quiet for ${QUIET_MS / 1000} s (it does not print APPLIANCE-READY on ttyS0)`
        return { readyMs: readyMs ?? lastChangeMs - started, noticed, consoleFile }
      }
      if (left !== undefined) {
        throw new DemoError(`the guest left (status ${left}) before it was ready:\n${run.stderr().slice(-1500)}`)
      }
      if (now - started > BOOT_TIMEOUT_MS) {
        throw new DemoError(`the guest was not ready within ${BOOT_TIMEOUT_MS / 1000} s; its console: ${consoleFile}`)
      }
    }
  } catch (error) {
    bar.break()
    throw error
  } finally {
    await endChild(run)
    endLeftOver(pidFile)
  }
}

async function machineStatus(volunteer: DemoPeer, machine: string): Promise<MachineStatus> {
  const status = await volunteer.status()
  const found = status.machines.find(({ name }) => name === machine)
  if (found === undefined) throw new DemoError(`the volunteer does not know its machine ${machine} any more`)
  return found
}

function readConsole(file: string): string {
  return existsSync(file) ? readFileSync(file, 'latin1') : ''
}

/** What the guest printed last, without the terminal's control sequences. */
function lastLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a console is full of them
  const plain = text.slice(-2000).replace(/\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]/g, '')
  return (plain.trimEnd().split('\n').at(-1) ?? '').trim().slice(0, MAX_DETAIL_CHARS)
}

/** QEMU goes with `rowan run`; should it have stayed, it ends here, by its own pid. */
function endLeftOver(pidFile: string): void {
  if (!existsSync(pidFile)) return
  const pid = Number(readFileSync(pidFile, 'utf8').trim())
  const commandLine = `/proc/${pid}/cmdline`
  if (!existsSync(commandLine) || !readFileSync(commandLine, 'utf8').includes(pidFile)) return
  process.kill(pid, 'SIGKILL')
}

/** Bytes that the guest's writes take on this disk. */
export function writtenBytes(home: string, machine: string): number {
  const data = join(home, 'machines', machine, 'layers', '0001', 'data')
  return existsSync(data) ? statSync(data).blocks * 512 : 0
}
