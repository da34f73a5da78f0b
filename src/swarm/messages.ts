/**
 * The control messages: from values to frames, and from a frame's body to values that are known to be within bounds.
 *
 * Every `read…` takes a frame from a stranger. What comes out can be used without another look at its size: lists are bounded,
 * numbers are within what their place allows, texts are short. What can only be judged with an image at hand (is this block
 * inside it?) is left to the caller. All of them throw WIRE_INVALID.
 */

import { HASH_SIZE_BYTES, INDEX_FANOUT } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import { MAX_PROFILE_BYTES } from '../image/boot-profile.ts'
import { PRIORITIES } from '../store/block-source.ts'
import { encodeFrame, FRAME, type Frame, frameName } from './frames.ts'
import {
  MAX_ADDRESS_LENGTH,
  MAX_AGENT_LENGTH,
  MAX_BLOCKS_PER_MESSAGE,
  MAX_BUSY_HINTS,
  MAX_HAVE_PAGES_PER_MESSAGE,
  MAX_HINT_ADDRESSES,
  MAX_NODES_PER_MESSAGE,
  MAX_PEER_ID_LENGTH,
  MAX_PROBLEM_LENGTH,
  MAX_RECORDS_PER_GREETING
} from './limits.ts'
import {
  Busy,
  Cancel,
  GetNodes,
  Have,
  Hello,
  Image,
  Missing,
  Nodes,
  Open,
  Problem,
  Raise,
  Want
} from './proto/blocks.js'

/** A position in PRIORITIES: 0 is demand, 3 is fill. */
export type Rank = 0 | 1 | 2 | 3
export interface NodePlace {
  level: number
  position: number
}
export interface IndexPart extends NodePlace {
  bytes: Uint8Array
}
export interface HavePage {
  page: number
  bitmap: Uint8Array
}
export interface PeerHint {
  peer: string
  addresses: string[]
}

export const OPEN_INDEX = { top: 0, all: 1 } as const
/** Why a block that was asked for does not come. Each block asked for gets exactly one answer: itself, or one of these. */
export const MISSING = { absent: 0, cancelled: 1, refused: 2, zero: 3 } as const
export type MissingReason = keyof typeof MISSING

const BITMAP_BYTES = INDEX_FANOUT / 8
const MAX_LEVEL = 3
const MAX_RETRY_AFTER_MS = 10 * 60_000

export function helloFrame(agent: string, records: number): Uint8Array {
  return encodeFrame(FRAME.hello, 0, Hello.encode({ agent: agent.slice(0, MAX_AGENT_LENGTH), records }))
}

export function readHello(frame: Frame): { agent: string; records: number } {
  const { agent, records } = decode(frame, body => Hello.decode(body))
  atMost(frame, 'agent', agent.length, MAX_AGENT_LENGTH)
  atMost(frame, 'records', records, MAX_RECORDS_PER_GREETING)
  return { agent, records }
}

export function openFrame(handle: number, image: Uint8Array, index: number): Uint8Array {
  return encodeFrame(FRAME.open, handle, Open.encode({ image: plain(image), index }))
}

export function readOpen(frame: Frame): { image: Uint8Array; index: number } {
  const { image, index } = decode(frame, body => Open.decode(body))
  if (image.byteLength !== HASH_SIZE_BYTES) throw invalid(frame, `an image id of ${image.byteLength} bytes`)
  atMost(frame, 'index', index, OPEN_INDEX.all)
  return { image, index }
}

export interface ImageAnswer {
  root: Uint8Array
  /** Empty when the image is all zero, or the top node is not here. */
  top: Uint8Array
  complete: boolean
  follow: number
  /** An encoded boot profile, empty if the replica has none to share. Not checked. */
  profile: Uint8Array
}

export function imageFrame(
  handle: number,
  answer: Omit<ImageAnswer, 'profile'> & { profile?: Uint8Array | undefined }
): Uint8Array {
  const { root, top, profile = new Uint8Array(0) } = answer
  const message = { ...answer, root: plain(root), top: plain(top), profile: plain(profile) }
  return encodeFrame(FRAME.image, handle, Image.encode(message))
}

export function readImage(frame: Frame): ImageAnswer {
  const { root, top, complete, follow, profile } = decode(frame, body => Image.decode(body))
  atMost(frame, 'length of a profile', profile.byteLength, MAX_PROFILE_BYTES)
  return { root, top, complete, follow, profile }
}

export function getNodesFrame(handle: number, refs: NodePlace[], priority: Rank): Uint8Array {
  return encodeFrame(FRAME.getNodes, handle, GetNodes.encode({ refs, priority }))
}

export function readGetNodes(frame: Frame): { refs: NodePlace[]; priority: Rank } {
  const message = decode(frame, body => GetNodes.decode(body, { limits: { refs: MAX_NODES_PER_MESSAGE } }))
  for (const ref of message.refs) atMost(frame, 'level', ref.level, MAX_LEVEL)
  return { refs: message.refs, priority: rank(frame, message.priority) }
}

export function nodesFrame(handle: number, parts: IndexPart[], missing: NodePlace[]): Uint8Array {
  return encodeFrame(
    FRAME.nodes,
    handle,
    Nodes.encode({
      parts: parts.map(part => ({ level: part.level, position: part.position, node: plain(part.bytes) })),
      missing
    })
  )
}

export function readNodes(frame: Frame): { parts: IndexPart[]; missing: NodePlace[] } {
  const limits = { parts: MAX_NODES_PER_MESSAGE, missing: MAX_NODES_PER_MESSAGE }
  const { parts, missing } = decode(frame, body => Nodes.decode(body, { limits }))
  for (const place of [...parts, ...missing]) atMost(frame, 'level', place.level, MAX_LEVEL)
  return { parts: parts.map(({ level, position, node }) => ({ level, position, bytes: node })), missing }
}

/** @param onBehalf - what is not there is to be fetched; a server that does not do that says that it is missing */
export function wantFrame(
  handle: number,
  blocks: number[],
  priority: Rank,
  acceptZstd: boolean,
  onBehalf = false
): Uint8Array {
  return encodeFrame(FRAME.want, handle, Want.encode({ blocks, priority, acceptZstd, onBehalf }))
}

export function readWant(frame: Frame): { blocks: number[]; priority: Rank; acceptZstd: boolean; onBehalf: boolean } {
  const message = decode(frame, body => Want.decode(body, { limits: { blocks: MAX_BLOCKS_PER_MESSAGE } }))
  const { blocks, acceptZstd, onBehalf } = message
  return { blocks, priority: rank(frame, message.priority), acceptZstd, onBehalf }
}

export function raiseFrame(handle: number, blocks: number[], nodes: NodePlace[], priority: Rank): Uint8Array {
  return encodeFrame(FRAME.raise, handle, Raise.encode({ blocks, nodes, priority }))
}

export function readRaise(frame: Frame): { blocks: number[]; nodes: NodePlace[]; priority: Rank } {
  const limits = { blocks: MAX_BLOCKS_PER_MESSAGE, nodes: MAX_NODES_PER_MESSAGE }
  const message = decode(frame, body => Raise.decode(body, { limits }))
  for (const node of message.nodes) atMost(frame, 'level', node.level, MAX_LEVEL)
  return { blocks: message.blocks, nodes: message.nodes, priority: rank(frame, message.priority) }
}

export function cancelFrame(handle: number, blocks: number[]): Uint8Array {
  return encodeFrame(FRAME.cancel, handle, Cancel.encode({ blocks }))
}

export function readCancel(frame: Frame): number[] {
  return decode(frame, body => Cancel.decode(body, { limits: { blocks: MAX_BLOCKS_PER_MESSAGE } })).blocks
}

export function missingFrame(handle: number, blocks: number[], reason: MissingReason): Uint8Array {
  return encodeFrame(FRAME.missing, handle, Missing.encode({ blocks, reason: MISSING[reason] }))
}

export function readMissing(frame: Frame): { blocks: number[]; reason: MissingReason } {
  const message = decode(frame, body => Missing.decode(body, { limits: { blocks: MAX_BLOCKS_PER_MESSAGE } }))
  const reason = REASONS[message.reason]
  if (reason === undefined) throw invalid(frame, `the unknown reason ${message.reason}`)
  return { blocks: message.blocks, reason }
}

export interface HaveNews {
  complete: boolean
  pages: HavePage[]
  /** It fetches blocks of this image on the requester's behalf. */
  helps: boolean
}

export function haveFrame(handle: number, complete: boolean, pages: HavePage[], helps = false): Uint8Array {
  const encoded = pages.map(({ page, bitmap }) => ({ page, bitmap: plain(bitmap) }))
  return encodeFrame(FRAME.have, handle, Have.encode({ complete, pages: encoded, helps }))
}

export function readHave(frame: Frame): HaveNews {
  const message = decode(frame, body => Have.decode(body, { limits: { pages: MAX_HAVE_PAGES_PER_MESSAGE } }))
  for (const { bitmap } of message.pages) {
    if (bitmap.byteLength !== BITMAP_BYTES) throw invalid(frame, `a bitmap of ${bitmap.byteLength} bytes`)
  }
  return { complete: message.complete, pages: message.pages, helps: message.helps }
}

export function busyFrame(others: PeerHint[], retryAfterMs: number): Uint8Array {
  const bounded = others.slice(0, MAX_BUSY_HINTS).map(({ peer, addresses }) => ({
    peer,
    addresses: addresses.filter(({ length }) => length <= MAX_ADDRESS_LENGTH).slice(0, MAX_HINT_ADDRESSES)
  }))
  return encodeFrame(FRAME.busy, 0, Busy.encode({ others: bounded, retryAfterMs }))
}

export function readBusy(frame: Frame): { others: PeerHint[]; retryAfterMs: number } {
  const { others, retryAfterMs } = decode(frame, body => Busy.decode(body, { limits: { others: MAX_BUSY_HINTS } }))
  for (const { peer, addresses } of others) {
    atMost(frame, 'length of a peer id', peer.length, MAX_PEER_ID_LENGTH)
    atMost(frame, 'number of addresses', addresses.length, MAX_HINT_ADDRESSES)
    for (const address of addresses) atMost(frame, 'length of an address', address.length, MAX_ADDRESS_LENGTH)
  }
  return { others, retryAfterMs: Math.min(retryAfterMs, MAX_RETRY_AFTER_MS) }
}

export function problemFrame(code: string, message: string): Uint8Array {
  return encodeFrame(FRAME.problem, 0, Problem.encode({ code, message: message.slice(0, MAX_PROBLEM_LENGTH) }))
}

export function readProblem(frame: Frame): { code: string; message: string } {
  const { code, message } = decode(frame, body => Problem.decode(body))
  // Both end up in a log: one line, short, and no control characters.
  const tame = (text: string) => text.slice(0, MAX_PROBLEM_LENGTH).replace(/\p{C}/gu, '?')
  return { code: tame(code), message: tame(message) }
}

const REASONS = Object.keys(MISSING) as MissingReason[]

function decode<T>(frame: Frame, read: (body: Uint8Array) => T): T {
  try {
    return read(frame.body)
  } catch (cause) {
    throw new RowanError('WIRE_INVALID', `a ${frameName(frame.type)} frame cannot be decoded: ${String(cause)}`, {
      cause
    })
  }
}

function rank(frame: Frame, priority: number): Rank {
  atMost(frame, 'priority', priority, PRIORITIES.length - 1)
  return priority as Rank
}

function atMost(frame: Frame, what: string, value: number, limit: number): void {
  if (value > limit) throw invalid(frame, `a ${what} of ${value}; ${limit} is the limit`)
}

function invalid(frame: Frame, what: string): RowanError {
  return new RowanError('WIRE_INVALID', `a ${frameName(frame.type)} frame has ${what}`)
}

/** protons' types ask for bytes over a plain ArrayBuffer, which all of ours are. */
function plain(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>
}
