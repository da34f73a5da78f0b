/**
 * The options that a client may send, as a table: what data each takes, where it is allowed, and how it is answered.
 *
 * An option that is not here is answered with UNSUP, which every client must be able to live with.
 */
import type { Exports } from './export.ts'
import { META_CONTEXTS, type MetaContext, matchContexts } from './meta-context.ts'
import { decodeContextRequest, decodeInfoRequest, decodeName } from './option-data.ts'
import { contextReply, errorReply, exportNameReply, infoReplies, optionReply, serverReply } from './option-replies.ts'
import { INFO, OPTION, REPLY } from './protocol.ts'
import type { ReplyMode, Session } from './session.ts'

/** What the client has agreed on so far. */
export interface Agreed {
  mode: ReplyMode
  /** What it selected for BLOCK_STATUS, and for which export (by the export's own name). */
  contexts: readonly MetaContext[]
  contextsOf: string | undefined
}

export const NOTHING_AGREED: Readonly<Agreed> = { mode: 'simple', contexts: [], contextsOf: undefined }

/** What the table may know of the negotiation around it. */
export interface OptionContext {
  exports: Exports
  maxListedExports: number
  /** The client spared itself the padding behind the answer to EXPORT_NAME. */
  noZeroes: boolean
  /** `required`: nothing else goes before TLS; `on`: it was begun. */
  tls: 'none' | 'required' | 'on'
  agreed: Readonly<Agreed>
}

/** What to send, and what comes after: more options, TLS, transmission, or the end (`close` says why, if not as asked). */
export interface OptionAnswer {
  replies: Buffer[]
  /** What the client has agreed on from now on, where that changed. */
  agreed?: Readonly<Agreed>
  serve?: Session
  startTls?: true
  close?: string
}

export interface OptionRule {
  name: string
  /** Clients that did not set FIXED_NEWSTYLE cannot read replies to other options. */
  oldClients?: true
  /** Answered before TLS where TLS is required. */
  beforeTls?: true
  /** What was selected for BLOCK_STATUS is replaced, also where the option is refused. */
  replacesContexts?: true
  answer(option: number, data: Buffer, context: OptionContext): OptionAnswer
}

export const OPTIONS: ReadonlyMap<number, OptionRule> = new Map<number, OptionRule>([
  [OPTION.EXPORT_NAME, { name: 'EXPORT_NAME', oldClients: true, answer: answerExportName }],
  [OPTION.ABORT, { name: 'ABORT', beforeTls: true, answer: answerAbort }],
  [OPTION.LIST, { name: 'LIST', answer: answerList }],
  [OPTION.STARTTLS, { name: 'STARTTLS', beforeTls: true, answer: answerStartTls }],
  [OPTION.INFO, { name: 'INFO', answer: answerInfo }],
  [OPTION.GO, { name: 'GO', answer: answerInfo }],
  [OPTION.STRUCTURED_REPLY, { name: 'STRUCTURED_REPLY', answer: answerStructuredReply }],
  [OPTION.LIST_META_CONTEXT, { name: 'LIST_META_CONTEXT', answer: answerContexts }],
  [OPTION.SET_META_CONTEXT, { name: 'SET_META_CONTEXT', replacesContexts: true, answer: answerContexts }],
  [OPTION.EXTENDED_HEADERS, { name: 'EXTENDED_HEADERS', answer: answerExtendedHeaders }]
])

function answerAbort(option: number): OptionAnswer {
  return { replies: [optionReply(option, REPLY.ACK)], close: '' }
}

/** What the client negotiated in the clear is forgotten: somebody else may have said it. */
function answerStartTls(option: number, data: Buffer, { tls }: OptionContext): OptionAnswer {
  if (tls === 'none') return refuse(option, REPLY.ERR_POLICY, 'this socket is local, and not encrypted')
  if (tls === 'on') return refuse(option, REPLY.ERR_INVALID, 'TLS is in use already')
  if (data.length > 0) return refuse(option, REPLY.ERR_INVALID, 'STARTTLS takes no data')
  return { replies: [optionReply(option, REPLY.ACK)], agreed: NOTHING_AGREED, startTls: true }
}

function answerStructuredReply(option: number, data: Buffer, { agreed }: OptionContext): OptionAnswer {
  if (data.length > 0) return refuse(option, REPLY.ERR_INVALID, 'STRUCTURED_REPLY takes no data')
  if (agreed.mode === 'extended') {
    return refuse(option, REPLY.ERR_EXT_HEADER_REQD, 'extended headers are in use already')
  }
  return { replies: [optionReply(option, REPLY.ACK)], agreed: { ...agreed, mode: 'structured' } }
}

function answerExtendedHeaders(option: number, data: Buffer, { agreed }: OptionContext): OptionAnswer {
  if (data.length > 0) return refuse(option, REPLY.ERR_INVALID, 'EXTENDED_HEADERS takes no data')
  return { replies: [optionReply(option, REPLY.ACK)], agreed: { ...agreed, mode: 'extended' } }
}

/** EXPORT_NAME cannot say no: a name that does not exist ends the connection. */
function answerExportName(_option: number, data: Buffer, context: OptionContext): OptionAnswer {
  if (context.agreed.mode === 'extended') return { replies: [], close: 'EXPORT_NAME after EXTENDED_HEADERS' }
  const name = decodeName(data)
  const session = name === undefined ? undefined : sessionOf(name, false, context)
  if (session === undefined) return { replies: [], close: 'EXPORT_NAME of an export that is not here' }
  return { replies: [exportNameReply(session, !context.noZeroes)], serve: session }
}

function answerList(option: number, data: Buffer, context: OptionContext): OptionAnswer {
  if (data.length > 0) return refuse(option, REPLY.ERR_INVALID, 'LIST takes no data')
  const names = context.exports.list()
  if (names.length > context.maxListedExports) {
    const text = `${names.length} exports are more than the ${context.maxListedExports} that can be listed`
    return refuse(option, REPLY.ERR_TOO_BIG, text)
  }
  const entries = names.map(name => serverReply(option, name, context.exports.open(name)?.description))
  return { replies: [...entries, optionReply(option, REPLY.ACK)] }
}

/** INFO and GO differ in what follows: more options after INFO, transmission after GO. */
function answerInfo(option: number, data: Buffer, context: OptionContext): OptionAnswer {
  const request = decodeInfoRequest(data)
  if (typeof request === 'string') return refuse(option, REPLY.ERR_INVALID, request)
  const { name, requests } = request
  const session = sessionOf(name, requests.has(INFO.BLOCK_SIZE), context)
  if (session === undefined) return refuseUnknown(option, name)
  const replies = [...infoReplies(option, session, requests), optionReply(option, REPLY.ACK)]
  return option === OPTION.INFO ? { replies } : { replies, serve: session }
}

/** LIST tells what there is, and takes a namespace for all that is in it; SET selects what is named in full. */
function answerContexts(option: number, data: Buffer, context: OptionContext): OptionAnswer {
  const { agreed, exports } = context
  const selects = option === OPTION.SET_META_CONTEXT
  if (selects && agreed.mode === 'simple') {
    const text = 'metadata contexts need STRUCTURED_REPLY or EXTENDED_HEADERS first'
    return refuse(option, REPLY.ERR_INVALID, text)
  }
  const request = decodeContextRequest(data)
  if (typeof request === 'string') return refuse(option, REPLY.ERR_INVALID, request)
  const { name, queries } = request
  const found = exports.open(name)
  if (found === undefined) return refuseUnknown(option, name)
  const contexts = queries.length === 0 && !selects ? META_CONTEXTS : matchContexts(queries, !selects)
  if (contexts === undefined) {
    const text = 'a query is a namespace, a colon and a name'
    return refuse(option, REPLY.ERR_INVALID, text)
  }
  const entries = contexts.map(({ id, name: contextName }) => contextReply(option, selects ? id : 0, contextName))
  const replies = [...entries, optionReply(option, REPLY.ACK)]
  return selects ? { replies, agreed: { ...agreed, contexts, contextsOf: found.name ?? name } } : { replies }
}

/** What transmission on an export would begin with now; undefined where there is no such export. */
function sessionOf(asked: string, knowsBlockSizes: boolean, context: OptionContext): Session | undefined {
  const found = context.exports.open(asked)
  if (found === undefined) return undefined
  const { mode, contexts, contextsOf } = context.agreed
  const name = found.name ?? asked
  return { name, export: found, knowsBlockSizes, mode, contexts: contextsOf === name ? contexts : [] }
}

function refuse(option: number, type: number, text: string): OptionAnswer {
  return { replies: [errorReply(option, type, text)] }
}

function refuseUnknown(option: number, name: string): OptionAnswer {
  return refuse(option, REPLY.ERR_UNKNOWN, `there is no export "${name}" here`)
}
