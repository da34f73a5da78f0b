/**
 * The bytes of replies, in the three forms that a client may have asked for.
 *
 *   simple       16 bytes with an errno, then a read's data
 *   structured   chunks with headers of 20 bytes that say what they carry: data, a hole, an error with a sentence
 *   extended     the same chunks behind headers of 32 bytes that repeat the request's offset
 *
 * A format writes where it is told and allocates nothing for a read. Each method returns how many bytes it wrote.
 */
import {
  CHUNK,
  CHUNK_DONE,
  COMMAND,
  EXTENDED_REPLY_HEADER_BYTES,
  EXTENDED_REPLY_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_HEADER_BYTES,
  STRUCTURED_REPLY_MAGIC
} from './protocol.ts'
import type { ReplyMode } from './session.ts'

const TWO_TO_32 = 2 ** 32
/** The sentence of an error; enough to say what was wrong, and it must fit where a short read's data was to be. */
const MAX_TEXT_BYTES = 160
/** The longest reply without data: an extended error with its offset. */
export const MAX_STATUS_BYTES = EXTENDED_REPLY_HEADER_BYTES + 6 + MAX_TEXT_BYTES + 8

/** What a reply says about the request that it answers. */
export interface RequestId {
  readonly command: number
  readonly cookieHigh: number
  readonly cookieLow: number
  readonly offsetHigh: number
  readonly offsetLow: number
}

export interface Failure {
  errno: number
  /** For the person at the other end; nothing of this host that is not theirs to know. */
  text: string
}

export interface ReplyFormat {
  /** In front of the data of a read, or of a part of it. */
  readonly dataHeaderBytes: number
  /** The header of data from `offset` on; `isLast` ends the reply. */
  data(buffer: Buffer, at: number, request: RequestId, offset: number, dataBytes: number, isLast: boolean): number
  /** All is well, and there is nothing more to say. */
  done(buffer: Buffer, at: number, request: RequestId): number
  /** @param offset - where a read failed, if other parts of it did not */
  error(buffer: Buffer, at: number, request: RequestId, failure: Failure, isLast: boolean, offset?: number): number
}

/** A format in which a reply consists of chunks. */
export interface ChunkFormat extends ReplyFormat {
  hole(buffer: Buffer, at: number, request: RequestId, offset: number, holeBytes: number, isLast: boolean): number
  /** The header of any chunk. */
  header(buffer: Buffer, at: number, request: RequestId, type: number, payloadBytes: number, isLast: boolean): number
}

const SIMPLE: ReplyFormat = {
  dataHeaderBytes: SIMPLE_REPLY_BYTES,
  data: (buffer, at, request) => simpleReply(buffer, at, request, 0),
  done: (buffer, at, request) => simpleReply(buffer, at, request, 0),
  error: (buffer, at, request, { errno }) => simpleReply(buffer, at, request, errno)
}

const STRUCTURED: ChunkFormat = {
  dataHeaderBytes: STRUCTURED_REPLY_HEADER_BYTES + 8,
  data(buffer, at, request, offset, dataBytes, isLast) {
    structuredHeader(buffer, at, request, CHUNK.OFFSET_DATA, 8 + dataBytes, isLast)
    writeUint64(buffer, at + STRUCTURED_REPLY_HEADER_BYTES, offset)
    return STRUCTURED_REPLY_HEADER_BYTES + 8
  },
  // A simple reply is allowed to all but READ, and shorter.
  done: (buffer, at, request) =>
    request.command === COMMAND.READ
      ? structuredHeader(buffer, at, request, CHUNK.NONE, 0, true)
      : simpleReply(buffer, at, request, 0),
  error: (buffer, at, request, failure, isLast, offset) =>
    errorChunk(structuredHeader, STRUCTURED_REPLY_HEADER_BYTES, buffer, at, request, failure, isLast, offset),
  hole: (buffer, at, request, offset, holeBytes, isLast) =>
    holeChunk(structuredHeader, buffer, at, request, offset, holeBytes, isLast),
  header: structuredHeader
}

const EXTENDED: ChunkFormat = {
  dataHeaderBytes: EXTENDED_REPLY_HEADER_BYTES + 8,
  data(buffer, at, request, offset, dataBytes, isLast) {
    extendedHeader(buffer, at, request, CHUNK.OFFSET_DATA, 8 + dataBytes, isLast)
    writeUint64(buffer, at + EXTENDED_REPLY_HEADER_BYTES, offset)
    return EXTENDED_REPLY_HEADER_BYTES + 8
  },
  done: (buffer, at, request) => extendedHeader(buffer, at, request, CHUNK.NONE, 0, true),
  error: (buffer, at, request, failure, isLast, offset) =>
    errorChunk(extendedHeader, EXTENDED_REPLY_HEADER_BYTES, buffer, at, request, failure, isLast, offset),
  hole: (buffer, at, request, offset, holeBytes, isLast) =>
    holeChunk(extendedHeader, buffer, at, request, offset, holeBytes, isLast),
  header: extendedHeader
}

export const REPLY_FORMATS: Record<ReplyMode, ReplyFormat> = {
  simple: SIMPLE,
  structured: STRUCTURED,
  extended: EXTENDED
}

/** The format where it has chunks; undefined for simple replies. */
export function chunkFormat(mode: ReplyMode): ChunkFormat | undefined {
  if (mode === 'simple') return undefined
  return mode === 'structured' ? STRUCTURED : EXTENDED
}

export function writeUint64(buffer: Buffer, at: number, value: number): void {
  buffer.writeUInt32BE(Math.floor(value / TWO_TO_32), at)
  buffer.writeUInt32BE(value % TWO_TO_32, at + 4)
}

function simpleReply(buffer: Buffer, at: number, request: RequestId, errno: number): number {
  buffer.writeUInt32BE(SIMPLE_REPLY_MAGIC, at)
  buffer.writeUInt32BE(errno, at + 4)
  buffer.writeUInt32BE(request.cookieHigh, at + 8)
  buffer.writeUInt32BE(request.cookieLow, at + 12)
  return SIMPLE_REPLY_BYTES
}

function structuredHeader(
  buffer: Buffer,
  at: number,
  request: RequestId,
  type: number,
  payloadBytes: number,
  isLast: boolean
): number {
  buffer.writeUInt32BE(STRUCTURED_REPLY_MAGIC, at)
  buffer.writeUInt16BE(isLast ? CHUNK_DONE : 0, at + 4)
  buffer.writeUInt16BE(type, at + 6)
  buffer.writeUInt32BE(request.cookieHigh, at + 8)
  buffer.writeUInt32BE(request.cookieLow, at + 12)
  buffer.writeUInt32BE(payloadBytes, at + 16)
  return STRUCTURED_REPLY_HEADER_BYTES
}

function extendedHeader(
  buffer: Buffer,
  at: number,
  request: RequestId,
  type: number,
  payloadBytes: number,
  isLast: boolean
): number {
  buffer.writeUInt32BE(EXTENDED_REPLY_MAGIC, at)
  buffer.writeUInt16BE(isLast ? CHUNK_DONE : 0, at + 4)
  buffer.writeUInt16BE(type, at + 6)
  buffer.writeUInt32BE(request.cookieHigh, at + 8)
  buffer.writeUInt32BE(request.cookieLow, at + 12)
  buffer.writeUInt32BE(request.offsetHigh, at + 16)
  buffer.writeUInt32BE(request.offsetLow, at + 20)
  writeUint64(buffer, at + 24, payloadBytes)
  return EXTENDED_REPLY_HEADER_BYTES
}

type WriteHeader = ChunkFormat['header']

function holeChunk(
  header: WriteHeader,
  buffer: Buffer,
  at: number,
  request: RequestId,
  offset: number,
  holeBytes: number,
  isLast: boolean
): number {
  const headerBytes = header(buffer, at, request, CHUNK.OFFSET_HOLE, 12, isLast)
  writeUint64(buffer, at + headerBytes, offset)
  buffer.writeUInt32BE(holeBytes, at + headerBytes + 8)
  return headerBytes + 12
}

function errorChunk(
  header: WriteHeader,
  headerBytes: number,
  buffer: Buffer,
  at: number,
  request: RequestId,
  failure: Failure,
  isLast: boolean,
  offset: number | undefined
): number {
  const textAt = at + headerBytes + 6
  const textBytes = buffer.write(failure.text, textAt, MAX_TEXT_BYTES)
  const payloadBytes = 6 + textBytes + (offset === undefined ? 0 : 8)
  header(buffer, at, request, offset === undefined ? CHUNK.ERROR : CHUNK.ERROR_OFFSET, payloadBytes, isLast)
  buffer.writeUInt32BE(failure.errno, at + headerBytes)
  buffer.writeUInt16BE(textBytes, at + headerBytes + 4)
  if (offset !== undefined) writeUint64(buffer, textAt + textBytes, offset)
  return headerBytes + payloadBytes
}
