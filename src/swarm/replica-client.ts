/**
 * The fetching side's connection to one replica: one stream, the images opened on it, what it owes.
 *
 * Speaks frames, checks that what comes answers what was asked, and passes it on; whether a block is the right one is for the
 * receiver of the events to say. It decides nothing: what is asked, and when, is the scheduler's.
 */

import type { Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { fromHex } from '../image/hash.ts'
import type { BlockBuffers } from './block-buffers.ts'
import { type FrameCarrier, FrameStream } from './frame-stream.ts'
import { creditFrame, encodeFrame, FLAG_ZSTD, FRAME, FRAME_HEADER_BYTES, type Frame, frameName } from './frames.ts'
import { Greeting, type RecordExchange } from './greeting.ts'
import { MAX_BLOCKS_PER_MESSAGE, MAX_IMAGES_PER_STREAM, MAX_NODES_PER_MESSAGE } from './limits.ts'
import {
  cancelFrame,
  getNodesFrame,
  type HaveNews,
  type ImageAnswer,
  type IndexPart,
  type MissingReason,
  type NodePlace,
  OPEN_INDEX,
  openFrame,
  type PeerHint,
  type Rank,
  raiseFrame,
  readBusy,
  readHave,
  readImage,
  readMissing,
  readNodes,
  readProblem,
  wantFrame
} from './messages.ts'
import type { ReplicaLink } from './replica-link.ts'
import { blockKey, type ItemKey, itemOf, nodeKey } from './scheduler-types.ts'

/** Images are named by their numbers here (see scheduler-types.ts). A promise holds back what comes behind. */
export interface ReplicaEvents {
  greeted(): void
  /** The image is being asked for; its answer is one round trip away. */
  asking(image: number): void
  image(image: number, answer: ImageAnswer): void | Promise<void>
  nodes(image: number, parts: IndexPart[], missing: NodePlace[]): void | Promise<void>
  /** A block that was asked for; its bytes were not checked. */
  block(image: number, block: number, body: Uint8Array, compressed: boolean, wireBytes: number): void | Promise<void>
  /** A block of an image that was given up. */
  unwanted(wireBytes: number): void
  missing(image: number, blocks: number[], reason: MissingReason): void
  have(image: number, news: HaveNews): void
  busy(others: PeerHint[], retryAfterMs: number): void
  progress(): void
  ended(error: RowanError | undefined): void
}

interface OpenedImage {
  handle: number
  /** Undefined until it was; false where the image is not there (yet). */
  answer: boolean | undefined
  /** Nodes that may still come: those asked for, and those announced to follow unasked. */
  nodesDue: number
}

const MAX_FOLLOWING_NODES = 4096

export class ReplicaClient implements ReplicaLink {
  readonly peer: string
  readonly #frames: FrameStream
  readonly #greeting: Greeting
  readonly #events: ReplicaEvents
  readonly #log: Log
  readonly #images = new Map<number, OpenedImage>()
  readonly #numbers = new Map<number, number>()
  /** Handles that were given up; what still comes for them is passed over. */
  readonly #released = new Set<number>()
  readonly #owed = new Set<ItemKey>()
  #nextHandle = 1

  constructor(
    peer: string,
    stream: FrameCarrier,
    components: { events: ReplicaEvents; records: RecordExchange | undefined; buffers: BlockBuffers; log: Log },
    images: readonly string[] = []
  ) {
    this.peer = peer
    this.#events = components.events
    this.#log = components.log
    this.#greeting = new Greeting(peer, components.records, components.log)
    const handlers = {
      onFrame: (frame: Frame) => this.#handle(frame),
      onBytes: () => this.#events.progress(),
      onEnd: (error: RowanError | undefined) => this.#events.ended(error)
    }
    this.#frames = new FrameStream(stream, 'server', handlers, components.buffers)
    this.#greeting.send(this.#frames, images)
  }

  get ended(): boolean {
    return this.#frames.ended
  }

  get greeted(): boolean {
    return this.#greeting.received
  }

  /** Whether this side keeps the replica from sending. */
  get paused(): boolean {
    return this.#frames.paused
  }

  /** Whether one more image can be opened on this stream. */
  get hasRoom(): boolean {
    return this.#images.size < MAX_IMAGES_PER_STREAM && this.#nextHandle < 2 ** 16
  }

  hasOpened(image: number): boolean {
    return this.#images.has(image)
  }

  /** Whether the answer to `open` has not come. */
  awaits(image: number): boolean {
    const opened = this.#images.get(image)
    return opened !== undefined && opened.answer === undefined
  }

  /** Whether it said that it does not have the image, and will say so when it has. */
  lacks(image: number): boolean {
    return this.#images.get(image)?.answer === false
  }

  /** Asks for an image's root, with all of its index where `all` and the size allow. Once for each image. */
  open(image: number, id: string, all: boolean): void {
    const handle = this.#nextHandle++
    this.#images.set(image, { handle, answer: undefined, nodesDue: 0 })
    this.#events.asking(image)
    this.#numbers.set(handle, image)
    this.#frames.send(openFrame(handle, fromHex(id), all ? OPEN_INDEX.all : OPEN_INDEX.top))
  }

  /** Gives an image up; what is still owed of it does not come. */
  release(image: number): void {
    const opened = this.#images.get(image)
    if (opened === undefined) return
    this.#images.delete(image)
    this.#numbers.delete(opened.handle)
    this.#released.add(opened.handle)
    for (const key of this.#owed) if (itemOf(key).image === image) this.#owed.delete(key)
    this.#frames.send(encodeFrame(FRAME.release, opened.handle, new Uint8Array(0)))
  }

  request(keys: ItemKey[], rank: Rank, acceptZstd: boolean, onBehalf = false): void {
    for (const key of keys) {
      this.#owed.add(key)
      const item = itemOf(key)
      const opened = this.#images.get(item.image)
      if (item.kind === 'node' && opened !== undefined) opened.nodesDue++
    }
    this.#each(keys, (handle, blocks, nodes) => {
      if (nodes.length > 0) this.#frames.send(getNodesFrame(handle, nodes, rank))
      if (blocks.length > 0) this.#frames.send(wantFrame(handle, blocks, rank, acceptZstd, onBehalf))
    })
  }

  raise(keys: ItemKey[], rank: Rank): void {
    this.#each(keys, (handle, blocks, nodes) => this.#frames.send(raiseFrame(handle, blocks, nodes, rank)))
  }

  /** Calls blocks off; the answer may be the block all the same. Nodes are small, and come. */
  callOff(keys: ItemKey[]): void {
    const owed = keys.filter(key => this.#owed.has(key))
    this.#each(owed, (handle, blocks) => {
      if (blocks.length > 0) this.#frames.send(cancelFrame(handle, blocks))
    })
  }

  credit(bytes: number): void {
    this.#frames.send(creditFrame(bytes))
  }

  end(error?: RowanError): void {
    this.#frames.end(error)
  }

  /** Calls `send` with what fits into one message, image by image. */
  #each(keys: ItemKey[], send: (handle: number, blocks: number[], nodes: NodePlace[]) => void): void {
    const groups = new Map<number, { blocks: number[]; nodes: NodePlace[] }>()
    for (const key of keys) {
      const item = itemOf(key)
      const handle = this.#images.get(item.image)?.handle
      if (handle === undefined) continue
      let group = groups.get(handle)
      if (group === undefined) {
        group = { blocks: [], nodes: [] }
        groups.set(handle, group)
      }
      if (item.kind === 'block') group.blocks.push(item.block)
      else group.nodes.push({ level: item.level, position: item.position })
      if (group.blocks.length < MAX_BLOCKS_PER_MESSAGE && group.nodes.length < MAX_NODES_PER_MESSAGE) continue
      groups.delete(handle)
      send(handle, group.blocks, group.nodes)
    }
    for (const [handle, { blocks, nodes }] of groups) send(handle, blocks, nodes)
  }

  #handle(frame: Frame): void | Promise<void> {
    if (frame.type === FRAME.busy) {
      const { others, retryAfterMs } = readBusy(frame)
      this.#events.busy(others, retryAfterMs)
      return
    }
    if (frame.type === FRAME.problem) {
      const { code, message } = readProblem(frame)
      this.#log.debug('a replica reports a problem', { peer: this.peer, code, message })
      return
    }
    if (frame.type !== FRAME.hello && !this.#greeting.received) {
      throw new RowanError('WIRE_INVALID', `${frameName(frame.type)} before HELLO`)
    }
    if (this.#released.has(frame.handle)) {
      if (frame.type === FRAME.block) this.#events.unwanted(FRAME_HEADER_BYTES + frame.body.byteLength)
      return
    }
    switch (frame.type) {
      case FRAME.hello:
        this.#greeting.hello(frame)
        this.#events.greeted()
        return
      case FRAME.record:
        this.#greeting.record(frame)
        return
      case FRAME.image:
        return this.#imageAnswer(frame)
      case FRAME.nodes:
        return this.#nodes(frame)
      case FRAME.block:
        return this.#block(frame)
      case FRAME.missing: {
        const { blocks, reason } = readMissing(frame)
        const image = this.#numberOf(frame)
        for (const block of blocks) this.#settle(frame, blockKey(image, block))
        this.#events.missing(image, blocks, reason)
        return
      }
      case FRAME.have: {
        const news = readHave(frame)
        this.#events.have(this.#numberOf(frame), news)
        return
      }
      default:
        throw new RowanError('WIRE_INVALID', `${frameName(frame.type)} to a requester`)
    }
  }

  #imageAnswer(frame: Frame): void | Promise<void> {
    const image = this.#numberOf(frame)
    const opened = this.#images.get(image)
    if (opened === undefined || opened.answer) throw new RowanError('WIRE_INVALID', 'an IMAGE that was not asked for')
    const answer = readImage(frame)
    const isThere = answer.root.byteLength > 0
    if (opened.answer === false && !isThere) throw new RowanError('WIRE_INVALID', 'an image that is missing twice')
    opened.answer = isThere
    opened.nodesDue += Math.min(answer.follow, MAX_FOLLOWING_NODES)
    return this.#events.image(image, answer)
  }

  #nodes(frame: Frame): void | Promise<void> {
    const image = this.#numberOf(frame)
    const { parts, missing } = readNodes(frame)
    const opened = this.#images.get(image)
    for (const { level, position } of [...parts, ...missing]) {
      // A node may come twice, announced and asked for, so they are counted, not matched.
      if (opened === undefined || opened.nodesDue-- <= 0) {
        throw new RowanError('WIRE_INVALID', `node ${position} of level ${level} was not asked for`)
      }
      this.#owed.delete(nodeKey(image, level, position))
    }
    return this.#events.nodes(image, parts, missing)
  }

  #block(frame: Frame): void | Promise<void> {
    const image = this.#numberOf(frame)
    this.#settle(frame, blockKey(image, frame.number))
    const wireBytes = FRAME_HEADER_BYTES + frame.body.byteLength
    return this.#events.block(image, frame.number, frame.body, (frame.flags & FLAG_ZSTD) !== 0, wireBytes)
  }

  #settle(frame: Frame, key: ItemKey): void {
    if (this.#owed.delete(key)) return
    throw new RowanError('WIRE_INVALID', `a ${frameName(frame.type)} frame answers what was not asked for`)
  }

  #numberOf(frame: Frame): number {
    const image = this.#numbers.get(frame.handle)
    if (image === undefined) {
      throw new RowanError('WIRE_INVALID', `a ${frameName(frame.type)} frame for the unknown handle ${frame.handle}`)
    }
    return image
  }
}
