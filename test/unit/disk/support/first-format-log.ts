/**
 * Writes a layer's log as the first release of rowan did: one area with records of one generation.
 */
import { crc32 } from 'node:zlib'
import { checksumSeed, encodeIdentity, type LayerIdentity } from '../../../../src/disk/layer-identity.ts'
import type { LogRecord } from '../../../../src/disk/layer-log.ts'

const AREA_RECORDS = 262_144
const RECORD_BYTES = 24

export function firstFormatLog(
  identity: LayerIdentity,
  { bootId, failed = false, records }: { bootId: string; failed?: boolean; records: LogRecord[] }
): Buffer {
  const log = Buffer.alloc(4096 + 2 * (512 + AREA_RECORDS * RECORD_BYTES))
  const identityBytes = encodeIdentity('log', identity, 1)
  identityBytes.copy(log)
  const header = log.subarray(4096, 4096 + 512)
  header.writeUInt8(failed ? 1 : 0, 4)
  header.writeUInt8(header.write(bootId, 12), 5)
  header.writeUIntLE(1, 6, 6)
  const seed = crc32(header.subarray(4), checksumSeed(identityBytes))
  header.writeUInt32LE(seed, 0)
  for (const [index, { start, count, state }] of records.entries()) {
    const at = 4096 + 512 + index * RECORD_BYTES
    const record = log.subarray(at, at + RECORD_BYTES)
    record.writeUInt16LE(RECORD_BYTES, 4)
    record.writeUInt8(state, 6)
    record.writeUInt32LE(index, 8)
    record.writeUIntLE(start, 12, 6)
    record.writeUInt32LE(count, 20)
    record.writeUInt32LE(crc32(record.subarray(4), seed), 0)
  }
  return log
}
