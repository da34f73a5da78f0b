/**
 * Gives the space of parts of a file back to the file system, through util-linux's `fallocate`: Node has no such call.
 *
 * One shell runs it for a whole batch, since each start of a process from Node costs a few milliseconds.
 *
 * **A daemon may die while its holes are being punched**, and these processes live on: the next daemon serves the machine in a moment, and
 * what its guest writes there would be gone. So they hold a lock as long as they live (`flock`, on a file beside the layers), which they
 * have before they are told to begin, and whoever opens the layers waits for it. A batch that takes too long is over only when
 * they are gone, too; until then its sectors stay held.
 */
import { execFile, spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { RowanError } from '../errors.ts'

export interface FileRange {
  startBytes: number
  lengthBytes: number
}

/** @throws RowanError TOOL_MISSING: it is not installed, or the file system cannot do it; what was done stays done */
export type PunchHoles = (path: string, ranges: readonly FileRange[]) => Promise<void>

/** In the folder of a machine's layers; it stays there until they are opened again. */
export const PUNCH_LOCK = 'punching'

const SCRIPT = `exec 9>>"$1" && flock --shared 9 || exit
echo locked && read -r go || exit
file=$2; shift 2
while [ $# -gt 1 ]; do fallocate --punch-hole --offset "$1" --length "$2" -- "$file" || exit; shift 2; done`
/** A file system that is busy; beyond this something is wrong, and a guest may be waiting. */
const TIMEOUT_MS = 30_000
/** What is kept of a complaint. */
const MAX_COMPLAINT_CHARACTERS = 1000

export const punchHoles: PunchHoles = async (path, ranges) => {
  const numbers = ranges.flatMap(({ startBytes, lengthBytes }) => [String(startBytes), String(lengthBytes)])
  const lock = join(dirname(dirname(path)), PUNCH_LOCK)
  await new Promise<void>((resolve, reject) => {
    // In a group of its own: a Ctrl-C is for the daemon.
    const options = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL', detached: true } as const
    const shell = spawn('sh', ['-c', SCRIPT, 'sh', lock, path, ...numbers], options)
    let complaint = ''
    const fail = (says: string, cause?: Error) =>
      reject(new RowanError('TOOL_MISSING', `no space is given back by trims: ${says}`, { cause }))
    shell.stdout.once('data', () => shell.stdin.end('go\n'))
    // It has gone without having been told to begin: its status says why.
    shell.stdin.on('error', () => undefined)
    shell.stderr.setEncoding('utf8').on('data', (part: string) => {
      complaint = (complaint + part).slice(0, MAX_COMPLAINT_CHARACTERS)
    })
    shell.once('error', error => fail(error.message, error))
    // Not before all who have its pipes are gone.
    shell.once('close', (status, signal) => {
      if (status === 0) resolve()
      else fail(complaint.trim() === '' ? `it ended with ${signal ?? status}` : complaint.trim())
    })
  })
}

/** Waits until what a daemon that died had begun is over. @throws RowanError DISK_STUCK where that does not end */
export async function punchesOver(lock: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const waitSeconds = String(TIMEOUT_MS / 1000)
    execFile('flock', ['--exclusive', '--timeout', waitSeconds, lock, 'true'], error => {
      // Without the tool nobody can have begun.
      if (error === null || error.code === 'ENOENT') return resolve()
      const says = `space that a guest has trimmed is still being given back to the host's disk: ${lock} is locked`
      reject(new RowanError('DISK_STUCK', says, { cause: error }))
    })
  })
}
