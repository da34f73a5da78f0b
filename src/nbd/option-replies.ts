/**
 * The bytes of what a server says during the negotiation.
 */
import { blockSizes, transmissionFlags } from './export.ts'
import {
  EXPORT_NAME_PADDING_BYTES,
  HANDSHAKE_FLAG,
  INFO,
  NBD_MAGIC,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  REPLY
} from './protocol.ts'
import type { Session } from './session.ts'

/** A UTF-16 unit is at most three bytes of UTF-8, so a text cut here stays below the protocol's 4,096 bytes. */
const MAX_TEXT_CHARS = 1365

/** The first bytes on every connection. */
export function greeting(): Buffer {
  const bytes = Buffer.alloc(18)
  bytes.writeBigUInt64BE(NBD_MAGIC, 0)
  bytes.writeBigUInt64BE(OPTION_MAGIC, 8)
  bytes.writeUInt16BE(HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES, 16)
  return bytes
}

/** One reply to `option`. */
export function optionReply(option: number, type: number, data: Uint8Array = new Uint8Array()): Buffer {
  const bytes = Buffer.allocUnsafe(OPTION_REPLY_HEADER_BYTES + data.length)
  bytes.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(type, 12)
  bytes.writeUInt32BE(data.length, 16)
  bytes.set(data, OPTION_REPLY_HEADER_BYTES)
  return bytes
}

/** A refusal, with a sentence for the person at the other end. */
export function errorReply(option: number, type: number, text: string): Buffer {
  return optionReply(option, type, Buffer.from(text.slice(0, MAX_TEXT_CHARS)))
}

/** One entry of the answer to LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextReply(option: number, id: number, name: string): Buffer {
  return optionReply(option, REPLY.META_CONTEXT, Buffer.concat([uint32(id), Buffer.from(name)]))
}

/** One entry of the answer to LIST. */
export function serverReply(option: number, name: string, description: string | undefined): Buffer {
  const encoded = Buffer.from(name)
  return optionReply(
    option,
    REPLY.SERVER,
    Buffer.concat([uint32(encoded.length), encoded, descriptionBytes(description)])
  )
}

/**
 * The information of an export that answers INFO and GO: EXPORT always, the rest where it was asked for.
 *
 * @param session - what it would be if transmission began now
 * @param requests - the information types that the client asked for, known or not
 */
export function infoReplies(option: number, session: Session, requests: Set<number>): Buffer[] {
  const { name, export: chosen } = session
  const replies = [optionReply(option, REPLY.INFO, Buffer.concat([infoType(INFO.EXPORT), sizeAndFlags(session)]))]
  const add = (type: number, data: Uint8Array) => {
    if (requests.has(type)) replies.push(optionReply(option, REPLY.INFO, Buffer.concat([infoType(type), data])))
  }
  add(INFO.NAME, Buffer.from(name))
  if (chosen.description !== undefined) add(INFO.DESCRIPTION, descriptionBytes(chosen.description))
  const { minimum, preferred, maximum } = blockSizes(chosen.device)
  add(INFO.BLOCK_SIZE, Buffer.concat([minimum, preferred, maximum].map(uint32)))
  return replies
}

/** The answer to EXPORT_NAME, which has no header of a reply. */
export function exportNameReply(session: Session, withPadding: boolean): Buffer {
  return Buffer.concat([sizeAndFlags(session), Buffer.alloc(withPadding ? EXPORT_NAME_PADDING_BYTES : 0)])
}

function sizeAndFlags(session: Session): Buffer {
  const { device } = session.export
  const bytes = Buffer.alloc(10)
  bytes.writeBigUInt64BE(BigInt(device.sizeBytes), 0)
  bytes.writeUInt16BE(transmissionFlags(device, session), 8)
  return bytes
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function infoType(type: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(type)
  return bytes
}

function descriptionBytes(description: string | undefined): Buffer {
  return Buffer.from((description ?? '').slice(0, MAX_TEXT_CHARS))
}
