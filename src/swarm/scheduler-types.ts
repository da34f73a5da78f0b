/**
 * What goes into the scheduler and what comes out of it.
 *
 * An item is one block, or one node of an index, of one image; its key is a number, so that maps stay small and fast. Images have
 * small numbers of this process's own.
 */

import type { HavePage, MissingReason, Rank } from './messages.ts'

/** 2^27 blocks are 8 TiB, the largest image. */
const BLOCK_SPAN = 2 ** 27
const LEVEL_SPAN = 2 ** 20
const IMAGE_SPAN = 2 * BLOCK_SPAN

export type ItemKey = number

export function blockKey(image: number, block: number): ItemKey {
  return image * IMAGE_SPAN + block
}

export function nodeKey(image: number, level: number, position: number): ItemKey {
  return image * IMAGE_SPAN + BLOCK_SPAN + level * LEVEL_SPAN + position
}

export type Item =
  | { image: number; kind: 'block'; block: number }
  | { image: number; kind: 'node'; level: number; position: number }

export function itemOf(key: ItemKey): Item {
  const rest = key % IMAGE_SPAN
  const image = (key - rest) / IMAGE_SPAN
  if (rest < BLOCK_SPAN) return { image, kind: 'block', block: rest }
  const place = rest - BLOCK_SPAN
  return { image, kind: 'node', level: Math.floor(place / LEVEL_SPAN), position: place % LEVEL_SPAN }
}

/** What is known of a peer before anything was measured. */
export interface PeerKind {
  /** Asked only for what no other peer gives in time. */
  lastResort?: boolean
  /** It answered on this peer's own network, and is called there. */
  onOwnNetwork?: boolean
  /** It was silent the last time. */
  isDoubtful?: boolean
}

export type SchedulerEvent =
  /** Somebody needs this; for a known key, the higher priority counts. `relied`: a neighbour does, and is not asked for it. */
  | { type: 'want'; key: ItemKey; rank: Rank; relied?: boolean }
  /** Nobody needs it any more. */
  | { type: 'cancel'; key: ItemKey }
  /** It is here, however it came; what is under way from others is called off. */
  | { type: 'done'; key: ItemKey }
  | { type: 'joined'; peer: string; rttMs: number; kind?: PeerKind }
  | { type: 'left'; peer: string }
  /** It answered something small; a greeting may have taken long because a host was busy. */
  | { type: 'round-trip'; peer: string; rttMs: number }
  /** What a peer has of an image; newer news add to older. */
  | { type: 'has'; peer: string; image: number; complete: boolean; pages: HavePage[] }
  /** Whether it fetches blocks of this image on this peer's behalf. */
  | { type: 'helps'; peer: string; image: number; helps: boolean }
  /** A peer answered a request with the item: `bytes` on the wire. Comes before its hash is checked. */
  | { type: 'answered'; peer: string; key: ItemKey; bytes: number }
  /** Such bytes came, and nobody wants them any more. */
  | { type: 'unwanted'; peer: string; bytes: number }
  | { type: 'missing'; peer: string; key: ItemKey; reason: MissingReason }
  /** It gave wrong bytes: it is dropped, and never asked again. */
  | { type: 'lied'; peer: string }
  /** Bytes came from it, be it the middle of a block. */
  | { type: 'progress'; peer: string }
  /** This side keeps it from sending. */
  | { type: 'held-back'; peer: string }
  /** From now on, only what a guest waits for and what it reads on to is asked for; or everything again. */
  | { type: 'quiet'; quiet: boolean }
  /** Time passed; `lateMs` is by how much the reminder came too late, because this process was busy, else 0. */
  | { type: 'time'; lateMs: number }

export type SchedulerAction =
  /** `onBehalf`: it is to fetch what it does not have. */
  | { type: 'send'; peer: string; rank: Rank; keys: ItemKey[]; onBehalf?: true }
  | { type: 'raise'; peer: string; rank: Rank; keys: ItemKey[] }
  | { type: 'call-off'; peer: string; keys: ItemKey[] }
  /** It may send so many more bytes that no guest waits for. */
  | { type: 'credit'; peer: string; bytes: number }
  /** A guest waits, and this peer is silent: call it anew, beside the connection that there is. */
  | { type: 'redial'; peer: string }
  /** Close the stream to it. A stalled one may be called again later, a liar never. */
  | { type: 'drop'; peer: string; why: 'lied' | 'stalled' }
  /** Something is wanted of this image that no connected peer can give. */
  | { type: 'find-replicas'; image: number; rank: Rank }
