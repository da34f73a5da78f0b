/**
 * Looks at a disk from outside, through somebody else's NBD client (libnbd).
 */

import { nbdsh, nbdshEnvironment } from './nbdsh.ts'
import { type RunningProcess, runOk, start } from './processes.ts'
import { SECTOR_BYTES } from './tiny-appliance.ts'

/**
 * What each sector says in its first 32-bit word.
 *
 * @returns the word, or -1 for a sector whose 128 words are not all equal: torn, or not written by the tiny appliance
 */
export async function sectorNumbers(uri: string, firstSector: number, count: number): Promise<number[]> {
  const script = [
    'import struct',
    `size = ${count} * ${SECTOR_BYTES}`,
    `at = ${firstSector} * ${SECTOR_BYTES}`,
    'step = 1 << 20',
    'data = b"".join(bytes(h.pread(min(step, size - done), at + done)) for done in range(0, size, step))',
    `for i in range(${count}):`,
    `    words = struct.unpack("<128I", data[i * ${SECTOR_BYTES}:(i + 1) * ${SECTOR_BYTES}])`,
    '    print(words[0] if len(set(words)) == 1 else -1)'
  ].join('\n')
  const printed = await nbdsh(['-u', uri, '-c', script])
  return printed.trim().split('\n').map(Number)
}

/**
 * A client that writes numbered sectors without ever flushing, and prints each number once its write is acknowledged.
 *
 * Sector `firstSector + n % span` gets the number n in all its words. It runs until its server goes away.
 */
export function startUnflushedWriter(uri: string, firstSector: number, span: number): RunningProcess {
  const script = [
    'import struct, itertools',
    'for n in itertools.count():',
    `    h.pwrite(struct.pack("<I", n) * 128, (${firstSector} + n % ${span}) * ${SECTOR_BYTES})`,
    '    print(n, flush=True)'
  ].join('\n')
  return start('nbdsh', ['-u', uri, '-c', script], { env: nbdshEnvironment() })
}

/** Copies a whole export into a file. */
export async function copyDisk(uri: string, file: string, timeoutMs?: number): Promise<void> {
  await runOk('nbdcopy', [uri, file], timeoutMs === undefined ? {} : { timeoutMs })
}
