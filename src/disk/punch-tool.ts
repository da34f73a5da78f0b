/**
 * Gives the space of parts of a file back to the file system, through util-linux's `fallocate`: Node has no such call.
 *
 * One shell runs it for a whole batch, since each start of a process from Node costs a few milliseconds.
 */
import { execFile } from 'node:child_process'
import { RowanError } from '../errors.ts'

export interface FileRange {
  startBytes: number
  lengthBytes: number
}

/** @throws RowanError TOOL_MISSING: it is not installed, or the file system cannot do it; what was done stays done */
export type PunchHoles = (path: string, ranges: readonly FileRange[]) => Promise<void>

const SCRIPT =
  'file=$1; shift; while [ $# -gt 1 ]; do fallocate --punch-hole --offset "$1" --length "$2" -- "$file" || exit; shift 2; done'
/** A file system that is busy; beyond this something is wrong, and a guest may be waiting. */
const TIMEOUT_MS = 30_000

export const punchHoles: PunchHoles = async (path, ranges) => {
  const numbers = ranges.flatMap(({ startBytes, lengthBytes }) => [String(startBytes), String(lengthBytes)])
  await new Promise<void>((resolve, reject) => {
    execFile('sh', ['-c', SCRIPT, 'sh', path, ...numbers], { timeout: TIMEOUT_MS }, (error, _out, complaint) => {
      if (error === null) return resolve()
      const says = complaint.trim() === '' ? error.message : complaint.trim()
      reject(new RowanError('TOOL_MISSING', `no space is given back by trims: ${says}`, { cause: error }))
    })
  })
}
