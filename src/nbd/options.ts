/**
 * The options that a client may send, as a table: what data each takes and how it is answered.
 *
 * An option that is not here is answered with UNSUP, which every client must be able to live with.
 */
import type { Export, Exports } from './export.ts'
import { errorReply, exportNameReply, infoReplies, optionReply, serverReply } from './option-replies.ts'
import { INFO, MAX_STRING_BYTES, OPTION, REPLY } from './protocol.ts'

/** What the table may know of the negotiation around it. */
export interface OptionContext {
  exports: Exports
  maxListedExports: number
  /** The client spared itself the padding behind the answer to EXPORT_NAME. */
  noZeroes: boolean
}

/** The export that transmission begins with. */
export interface Chosen {
  name: string
  export: Export
  /** The client asked for the block sizes, so it must keep to them. */
  knowsBlockSizes: boolean
}

/** What to send, and what comes after: more options, transmission, or the end (`close` says why, if not as asked). */
export interface OptionAnswer {
  replies: Buffer[]
  serve?: Chosen
  close?: string
}

export interface OptionRule {
  name: string
  /** Clients that did not set FIXED_NEWSTYLE cannot read replies to other options. */
  oldClients?: true
  answer(option: number, data: Buffer, context: OptionContext): OptionAnswer
}

export const OPTIONS: ReadonlyMap<number, OptionRule> = new Map<number, OptionRule>([
  [OPTION.EXPORT_NAME, { name: 'EXPORT_NAME', oldClients: true, answer: answerExportName }],
  [OPTION.ABORT, { name: 'ABORT', answer: option => ({ replies: [optionReply(option, REPLY.ACK)], close: '' }) }],
  [OPTION.LIST, { name: 'LIST', answer: answerList }],
  [OPTION.INFO, { name: 'INFO', answer: answerInfo }],
  [OPTION.GO, { name: 'GO', answer: answerInfo }]
])

/** EXPORT_NAME cannot say no: a name that does not exist ends the connection. */
function answerExportName(_option: number, data: Buffer, context: OptionContext): OptionAnswer {
  const name = decodeName(data)
  const found = name === undefined ? undefined : context.exports.open(name)
  if (name === undefined || found === undefined) {
    return { replies: [], close: 'EXPORT_NAME of an export that is not here' }
  }
  return {
    replies: [exportNameReply(found, !context.noZeroes)],
    serve: { name: found.name ?? name, export: found, knowsBlockSizes: false }
  }
}

function answerList(option: number, data: Buffer, context: OptionContext): OptionAnswer {
  if (data.length > 0) return { replies: [errorReply(option, REPLY.ERR_INVALID, 'LIST takes no data')] }
  const names = context.exports.list()
  if (names.length > context.maxListedExports) {
    const text = `${names.length} exports are more than the ${context.maxListedExports} that can be listed`
    return { replies: [errorReply(option, REPLY.ERR_TOO_BIG, text)] }
  }
  const entries = names.map(name => serverReply(option, name, context.exports.open(name)?.description))
  return { replies: [...entries, optionReply(option, REPLY.ACK)] }
}

/** INFO and GO differ in what follows: more options after INFO, transmission after GO. */
function answerInfo(option: number, data: Buffer, context: OptionContext): OptionAnswer {
  const request = decodeInfoRequest(data)
  if (typeof request === 'string') return { replies: [errorReply(option, REPLY.ERR_INVALID, request)] }
  const { name, requests } = request
  const found = context.exports.open(name)
  if (found === undefined) {
    return { replies: [errorReply(option, REPLY.ERR_UNKNOWN, `there is no export "${name}" here`)] }
  }
  const ownName = found.name ?? name
  const replies = [...infoReplies(option, ownName, found, requests), optionReply(option, REPLY.ACK)]
  if (option === OPTION.INFO) return { replies }
  return { replies, serve: { name: ownName, export: found, knowsBlockSizes: requests.has(INFO.BLOCK_SIZE) } }
}

/** 32 bits length of name, name, 16 bits number of requests, 16 bits each; or a sentence that says what is wrong. */
function decodeInfoRequest(data: Buffer): { name: string; requests: Set<number> } | string {
  if (data.length < 6) return `${data.length} bytes are too few for a name and a number of requests`
  const nameBytes = data.readUInt32BE(0)
  if (nameBytes > data.length - 6) return `a name of ${nameBytes} bytes does not fit into the option`
  const name = decodeName(data.subarray(4, 4 + nameBytes))
  if (name === undefined) return `a name must be UTF-8 of at most ${MAX_STRING_BYTES} bytes, without NUL`
  const count = data.readUInt16BE(4 + nameBytes)
  const at = 6 + nameBytes
  if (data.length !== at + 2 * count) return `${count} information requests do not fill the option exactly`
  const requests = new Set<number>()
  for (let index = 0; index < count; index++) requests.add(data.readUInt16BE(at + 2 * index))
  return { name, requests }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function decodeName(bytes: Buffer): string | undefined {
  if (bytes.length > MAX_STRING_BYTES || bytes.includes(0)) return undefined
  try {
    return utf8.decode(bytes)
  } catch {
    // Not UTF-8: no export can have this name, and the caller says so in the way that its option allows.
    return undefined
  }
}
