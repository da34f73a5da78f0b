/**
 * The frame: what `/rowan/blocks/1.0.0` consists of.
 *
 *     0      1      2         4             8             12
 *     +------+------+---------+-------------+-------------+----------
 *     | type | flags| handle  | number      | length      | body …
 *     +------+------+---------+-------------+-------------+----------
 *
 * Big-endian. `handle` stands for an image (the requester chooses it in OPEN; 0 where no image is meant), `number` is the block
 * of a BLOCK frame, the bytes of a CREDIT, and 0 elsewhere, `length` that of the body. A body is a protobuf message (./messages.ts), a signed record, or the
 * bytes of a block. Each type has its own greatest length, checked before anything is kept, and its own sender: the requester
 * (who opened the stream) or the server.
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'

export const FRAME_HEADER_BYTES = 12
export const FLAG_ZSTD = 1

export const FRAME = {
  hello: 1,
  record: 2,
  open: 3,
  image: 4,
  getNodes: 5,
  nodes: 6,
  want: 7,
  block: 8,
  missing: 9,
  cancel: 10,
  raise: 11,
  release: 12,
  have: 13,
  busy: 14,
  problem: 15,
  credit: 16
} as const
export type FrameType = (typeof FRAME)[keyof typeof FRAME]

export type Role = 'requester' | 'server'

interface FrameRule {
  name: string
  maxBytes: number
  /** Who may send it. */
  from: Role | 'both'
}

const KIB = 1024
/** A signed `latest` record (256 KiB) in its envelope. */
export const MAX_RECORD_BYTES = 272 * KIB
const RULES: Record<FrameType, FrameRule> = {
  [FRAME.hello]: { name: 'HELLO', maxBytes: 1 * KIB, from: 'both' },
  [FRAME.record]: { name: 'RECORD', maxBytes: MAX_RECORD_BYTES, from: 'both' },
  [FRAME.open]: { name: 'OPEN', maxBytes: 64, from: 'requester' },
  [FRAME.image]: { name: 'IMAGE', maxBytes: 104 * KIB, from: 'server' },
  [FRAME.getNodes]: { name: 'GET_NODES', maxBytes: 2 * KIB, from: 'requester' },
  [FRAME.nodes]: { name: 'NODES', maxBytes: 256 * KIB, from: 'server' },
  [FRAME.want]: { name: 'WANT', maxBytes: 4 * KIB, from: 'requester' },
  [FRAME.block]: { name: 'BLOCK', maxBytes: BLOCK_SIZE_BYTES, from: 'server' },
  [FRAME.missing]: { name: 'MISSING', maxBytes: 4 * KIB, from: 'server' },
  [FRAME.cancel]: { name: 'CANCEL', maxBytes: 4 * KIB, from: 'requester' },
  [FRAME.raise]: { name: 'RAISE', maxBytes: 4 * KIB, from: 'requester' },
  [FRAME.release]: { name: 'RELEASE', maxBytes: 0, from: 'requester' },
  [FRAME.have]: { name: 'HAVE', maxBytes: 160 * KIB, from: 'server' },
  [FRAME.busy]: { name: 'BUSY', maxBytes: 64 * KIB, from: 'server' },
  [FRAME.problem]: { name: 'PROBLEM', maxBytes: 4 * KIB, from: 'both' },
  [FRAME.credit]: { name: 'CREDIT', maxBytes: 0, from: 'requester' }
}

export interface FrameHeader {
  type: FrameType
  flags: number
  handle: number
  number: number
  lengthBytes: number
}

export interface Frame extends FrameHeader {
  /** Belongs to the receiver of the frame alone. */
  body: Uint8Array
}

export function frameName(type: FrameType): string {
  return RULES[type].name
}

/**
 * Reads the header at the beginning of `bytes` (12 of them).
 *
 * @param from - who sent it
 * @throws WIRE_INVALID for an unknown type, one that this sender may not send, or a body longer than its type allows
 */
export function decodeHeader(bytes: Uint8Array, from: Role): FrameHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, FRAME_HEADER_BYTES)
  const type = view.getUint8(0) as FrameType
  const rule: FrameRule | undefined = RULES[type]
  if (rule === undefined) throw new RowanError('WIRE_INVALID', `a frame has the unknown type ${type}`)
  if (rule.from !== 'both' && rule.from !== from) {
    throw new RowanError('WIRE_INVALID', `a ${from} may not send ${rule.name}`)
  }
  const lengthBytes = view.getUint32(8)
  if (lengthBytes > rule.maxBytes) {
    throw new RowanError('WIRE_INVALID', `a ${rule.name} frame of ${lengthBytes} bytes; ${rule.maxBytes} are allowed`)
  }
  const flags = view.getUint8(1)
  if (flags !== 0 && !(type === FRAME.block && flags === FLAG_ZSTD)) {
    throw new RowanError('WIRE_INVALID', `a ${rule.name} frame has the unknown flags ${flags}`)
  }
  return { type, flags, handle: view.getUint16(2), number: view.getUint32(4), lengthBytes }
}

/** Header and body of a control frame in one buffer: one write, and so one frame of the muxer. */
export function encodeFrame(type: FrameType, handle: number, body: Uint8Array): Uint8Array {
  const rule = RULES[type]
  if (body.byteLength > rule.maxBytes) {
    throw new RowanError(
      'LIMIT_EXCEEDED',
      `a ${rule.name} frame of ${body.byteLength} bytes; ${rule.maxBytes} are allowed`
    )
  }
  return joinFrame(type, 0, handle, 0, body)
}

/** So many more bytes of BLOCK frames may be sent (credit.ts). */
export function creditFrame(bytes: number): Uint8Array {
  return header(Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES), FRAME.credit, 0, 0, bytes)
}

/** A BLOCK frame with room for a raw block, which is to be read straight into its body: a copy less. */
export function emptyBlockFrame(handle: number, block: number): Uint8Array {
  return header(Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES + BLOCK_SIZE_BYTES), FRAME.block, 0, handle, block)
}

/** The part of a frame behind its header. */
export function bodyOf(frame: Uint8Array): Uint8Array {
  return frame.subarray(FRAME_HEADER_BYTES)
}

/** A block behind its header, compressed or not. Copies it: what is given to a stream belongs to the stream. */
export function encodeBlockFrame(handle: number, block: number, body: Uint8Array, compressed: boolean): Uint8Array {
  return joinFrame(FRAME.block, compressed ? FLAG_ZSTD : 0, handle, block, body)
}

function joinFrame(type: FrameType, flags: number, handle: number, number: number, body: Uint8Array): Uint8Array {
  const frame = header(Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES + body.byteLength), type, flags, handle, number)
  frame.set(body, FRAME_HEADER_BYTES)
  return frame
}

function header(frame: Buffer, type: FrameType, flags: number, handle: number, number: number): Uint8Array {
  frame.writeUInt8(type, 0)
  frame.writeUInt8(flags, 1)
  frame.writeUInt16BE(handle, 2)
  frame.writeUInt32BE(number, 4)
  frame.writeUInt32BE(frame.byteLength - FRAME_HEADER_BYTES, 8)
  return frame
}
