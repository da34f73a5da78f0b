/**
 * What a machine has cost since it was created: blocks fetched, time waited. Kept in stats.json across restarts.
 *
 * The numbers of the running session are added to those of all earlier ones. They are advice, not state: a damaged or
 * missing file starts from zero, and the file is replaced without waiting for the disk.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Log } from '../environment.ts'

export interface MachineStats {
  fetched: { blocks: number; bytes: number; wireBytes: number }
  /** Time with a demand read pending on the network. */
  waited: { seconds: number; longestMs: number; reads: number }
}

const FILE = 'stats.json'

export function noStats(): MachineStats {
  return { fetched: { blocks: 0, bytes: 0, wireBytes: 0 }, waited: { seconds: 0, longestMs: 0, reads: 0 } }
}

/** Those of two periods together. */
export function addStats(a: MachineStats, b: MachineStats): MachineStats {
  return {
    fetched: {
      blocks: a.fetched.blocks + b.fetched.blocks,
      bytes: a.fetched.bytes + b.fetched.bytes,
      wireBytes: a.fetched.wireBytes + b.fetched.wireBytes
    },
    waited: {
      seconds: a.waited.seconds + b.waited.seconds,
      longestMs: Math.max(a.waited.longestMs, b.waited.longestMs),
      reads: a.waited.reads + b.waited.reads
    }
  }
}

export function readStats(folder: string, log: Log): MachineStats {
  const path = join(folder, FILE)
  try {
    return checkStats(JSON.parse(readFileSync(path, 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.warn('counting from zero again', { path, error })
    return noStats()
  }
}

export function writeStats(folder: string, stats: MachineStats): void {
  const aside = join(folder, `.${FILE}.new`)
  writeFileSync(aside, `${JSON.stringify(stats)}\n`, { mode: 0o600 })
  renameSync(aside, join(folder, FILE))
}

function checkStats(value: Partial<MachineStats> | null): MachineStats {
  const read = (part: Record<string, number> | undefined, name: string): number => {
    const number = part?.[name]
    if (typeof number === 'number' && number >= 0) return number
    throw new TypeError(`"${name}" is not valid`)
  }
  const { fetched, waited } = value ?? {}
  return {
    fetched: {
      blocks: read(fetched, 'blocks'),
      bytes: read(fetched, 'bytes'),
      wireBytes: read(fetched, 'wireBytes')
    },
    waited: {
      seconds: read(waited, 'seconds'),
      longestMs: read(waited, 'longestMs'),
      reads: read(waited, 'reads')
    }
  }
}
