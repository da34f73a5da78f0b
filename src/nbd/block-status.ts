/**
 * BLOCK_STATUS: what the disk is made of, as one chunk for each metadata context.
 *
 * The extents are asked of the disk once and told in each context's own flags. A client that goes on asking where an
 * answer ended gets through the whole disk; so an answer may be short, and always is where the disk is in many parts.
 */
import type { BlockDevice } from '../disk/block-device.ts'
import { type MetaContext, type Status, statusesOf } from './meta-context.ts'
import { CHUNK } from './protocol.ts'
import { type ChunkFormat, MAX_STATUS_BYTES, type RequestId, writeUint64 } from './reply-format.ts'
import type { ReplyWriter } from './reply-writer.ts'

/** Parts that one answer tells of: 32 KiB a context. The specification's limit is 2^20. */
const MAX_STATUSES = 2_048
/** Extents that are looked at for an answer of one: neighbours may be alike in a context. */
const EXTENTS_FOR_ONE = 64
const LENGTH_BYTES = 8
const ID_BYTES = 4

/** What the client wants to know. */
export interface StatusRequest {
  offset: number
  lengthBytes: number
  contexts: readonly MetaContext[]
  /** REQ_ONE: one part in each context. */
  onlyOne: boolean
}

/**
 * The range and the contexts that the payload of an extended request names; undefined where it names an unknown context,
 * one twice, none, or is no such payload at all.
 */
export function decodeStatusPayload(
  payload: Buffer,
  selected: readonly MetaContext[]
): { lengthBytes: number; contexts: MetaContext[] } | undefined {
  const ids = (payload.length - LENGTH_BYTES) / ID_BYTES
  if (!Number.isInteger(ids) || ids < 1 || ids > selected.length) return undefined
  const contexts = new Set<MetaContext>()
  for (let index = 0; index < ids; index++) {
    const id = payload.readUInt32BE(LENGTH_BYTES + index * ID_BYTES)
    const context = selected.find(candidate => candidate.id === id)
    if (context === undefined || contexts.has(context)) return undefined
    contexts.add(context)
  }
  return { lengthBytes: Number(payload.readBigUInt64BE(0)), contexts: [...contexts] }
}

/** The longest payload that can be right. */
export function maxStatusPayloadBytes(selected: readonly MetaContext[]): number {
  return LENGTH_BYTES + ID_BYTES * selected.length
}

/** The longest answer. */
export function maxStatusBytes(selected: readonly MetaContext[]): number {
  return selected.length * (MAX_STATUS_BYTES + 16 * MAX_STATUSES)
}

/**
 * Lays out the answer.
 *
 * @param isExtended - lengths and flags are 64 bits wide, and counted
 */
export function answerStatus(
  device: BlockDevice,
  request: StatusRequest,
  id: RequestId,
  replies: ReplyWriter,
  format: ChunkFormat,
  isExtended: boolean
): void {
  const { offset, lengthBytes, contexts, onlyOne } = request
  const extents = device.extents(offset, lengthBytes, onlyOne ? EXTENTS_FOR_ONE : MAX_STATUSES)
  for (const [index, context] of contexts.entries()) {
    const statuses = statusesOf(context, extents, onlyOne ? 1 : MAX_STATUSES)
    const isLast = index === contexts.length - 1
    if (isExtended) {
      replies.chunk(format, id, CHUNK.BLOCK_STATUS_EXT, 8 + 16 * statuses.length, isLast, (buffer, at) =>
        writeExtended(buffer, at, context.id, statuses)
      )
    } else {
      replies.chunk(format, id, CHUNK.BLOCK_STATUS, 4 + 8 * statuses.length, isLast, (buffer, at) =>
        writeCompact(buffer, at, context.id, statuses)
      )
    }
  }
}

function writeCompact(buffer: Buffer, at: number, id: number, statuses: Status[]): void {
  buffer.writeUInt32BE(id, at)
  let next = at + 4
  for (const { lengthBytes, flags } of statuses) {
    buffer.writeUInt32BE(lengthBytes, next)
    buffer.writeUInt32BE(flags, next + 4)
    next += 8
  }
}

function writeExtended(buffer: Buffer, at: number, id: number, statuses: Status[]): void {
  buffer.writeUInt32BE(id, at)
  buffer.writeUInt32BE(statuses.length, at + 4)
  let next = at + 8
  for (const { lengthBytes, flags } of statuses) {
    writeUint64(buffer, next, lengthBytes)
    writeUint64(buffer, next + 8, flags)
    next += 16
  }
}
