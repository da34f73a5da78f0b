/**
 * Looks at a disk from outside, through somebody else's NBD client (libnbd).
 */

import { nbdsh } from './nbdsh.ts'
import { runOk } from './processes.ts'
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
  const printed = await nbdsh(['-u', uri, '-c', script], { timeoutMs: 60_000 })
  return printed.trim().split('\n').map(Number)
}

/** Copies a whole export into a file. */
export async function copyDisk(uri: string, file: string, timeoutMs = 120_000): Promise<void> {
  await runOk('nbdcopy', [uri, file], { timeoutMs })
}
