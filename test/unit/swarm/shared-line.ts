/**
 * A home line in virtual time: the real scheduler at one end, the real queues and credits of several replicas at the other.
 *
 * What the replicas send shares one queue, as before a home router, and takes a round trip on top. Blocks may be of any size, which the
 * scheduler cannot know. What is left out: protocols below, time that computing takes, the way up's rate.
 */

import { Agenda } from '../../../sim/agenda.ts'
import { Credit } from '../../../src/swarm/credit.ts'
import { FRAME_HEADER_BYTES } from '../../../src/swarm/frames.ts'
import type { Rank } from '../../../src/swarm/messages.ts'
import { Scheduler } from '../../../src/swarm/scheduler.ts'
import { blockKey, type ItemKey, itemOf } from '../../../src/swarm/scheduler-types.ts'
import { UploadQueue } from '../../../src/swarm/upload-queue.ts'

const IMAGE = 0
const SLOT_MS = 0.25

export interface LineSettings {
  rttMs: number
  bytesPerMs: number
  replicas: number
  /** What a block costs on the wire. */
  sizeOf(block: number): number
}

interface Replica {
  queue: UploadQueue<'volunteer', 'job'>
  credit: Credit
  held: { key: ItemKey; bytes: number } | undefined
}

export class SharedLine {
  readonly scheduler = new Scheduler()
  readonly #settings: LineSettings
  readonly #agenda = new Agenda<() => void>(SLOT_MS)
  readonly #replicas = new Map<string, Replica>()
  readonly #waiting = new Map<ItemKey, (() => void)[]>()
  #freeMs = 0
  #deciding = false
  #wakeMs = Number.POSITIVE_INFINITY
  carriedBytes = 0

  constructor(settings: LineSettings) {
    this.#settings = settings
    for (let n = 0; n < settings.replicas; n++) {
      const peer = `replica ${n}`
      this.#replicas.set(peer, { queue: new UploadQueue(), credit: new Credit(), held: undefined })
      this.#tell(() => {
        this.scheduler.apply({ type: 'joined', peer, rttMs: settings.rttMs }, this.nowMs)
        this.scheduler.apply({ type: 'has', peer, image: IMAGE, complete: true, pages: [] }, this.nowMs)
      })
    }
  }

  get nowMs(): number {
    return this.#agenda.now
  }

  /** How long what is sent now stands in the queue. */
  get queueMs(): number {
    return Math.max(0, this.#freeMs - this.nowMs)
  }

  after(delayMs: number, happen: () => void): void {
    this.#agenda.at(this.nowMs + delayMs, happen)
  }

  want(block: number, rank: Rank, came: () => void = () => undefined): void {
    const key = blockKey(IMAGE, block)
    const waiting = this.#waiting.get(key)
    if (waiting === undefined) this.#waiting.set(key, [came])
    else waiting.push(came)
    this.#tell(() => this.scheduler.apply({ type: 'want', key, rank }, this.nowMs))
  }

  /** Somebody needs a block that is wanted already, and maybe sooner. */
  raise(block: number, rank: Rank): void {
    this.#tell(() => this.scheduler.apply({ type: 'want', key: blockKey(IMAGE, block), rank }, this.nowMs))
  }

  run(forMs: number): void {
    this.#agenda.advance(this.nowMs + forMs, happen => happen())
  }

  #tell(event: () => void): void {
    event()
    if (this.#deciding) return
    this.#deciding = true
    this.after(0, () => this.#decide())
  }

  #decide(): void {
    this.#deciding = false
    for (const action of this.scheduler.decide(this.nowMs)) {
      if (action.type === 'find-replicas' || action.type === 'redial' || action.type === 'drop') continue
      this.after(this.#settings.rttMs / 2, () => this.#serve(action))
    }
    const nextMs = this.scheduler.nextMs(this.nowMs)
    if (nextMs === undefined || nextMs >= this.#wakeMs) return
    this.#wakeMs = nextMs
    this.after(nextMs - this.nowMs, () => {
      this.#wakeMs = Number.POSITIVE_INFINITY
      this.#tell(() => undefined)
    })
  }

  #serve(action: Extract<ReturnType<Scheduler['decide']>[number], { type: 'send' | 'raise' | 'call-off' | 'credit' }>) {
    const { peer } = action
    const { queue, credit } = this.#replicas.get(peer)!
    if (action.type === 'credit') credit.grant(action.bytes)
    else if (action.type === 'raise') {
      for (const key of action.keys) queue.raise('volunteer', key, action.rank)
      const { held } = this.#replicas.get(peer)!
      if (action.rank === 0 && held !== undefined && action.keys.includes(held.key)) {
        this.#replicas.get(peer)!.held = undefined
        this.#send(peer, held)
      }
    } else if (action.type === 'send') for (const key of action.keys) queue.add('volunteer', key, action.rank, 'job')
    else {
      for (const key of action.keys.filter(key => queue.cancel('volunteer', key))) {
        const missing = { type: 'missing', peer, key, reason: 'cancelled' } as const
        this.#carry(FRAME_HEADER_BYTES, () => this.#tell(() => this.scheduler.apply(missing, this.nowMs)))
      }
    }
    this.#work(peer)
  }

  /** As uploads.ts, asked-items.ts and outgoing-blocks.ts do it. */
  #work(peer: string): void {
    const replica = this.#replicas.get(peer)!
    const { queue, credit } = replica
    if (replica.held !== undefined && credit.covers(replica.held.bytes)) {
      this.#send(peer, replica.held)
      replica.held = undefined
    }
    const canTake = (_: unknown, rank: Rank) => rank === 0 || replica.held === undefined
    for (let next = queue.next(canTake); next !== undefined; next = queue.next(canTake)) {
      const { key, rank } = next
      const item = itemOf(key)
      if (item.kind !== 'block') throw new Error('only blocks are carried here')
      const frame = { key, bytes: FRAME_HEADER_BYTES + this.#settings.sizeOf(item.block) }
      if (rank === 0 || credit.covers(frame.bytes)) this.#send(peer, frame)
      else replica.held = frame
    }
  }

  #send(peer: string, { key, bytes }: { key: ItemKey; bytes: number }): void {
    this.#replicas.get(peer)!.credit.sent(bytes)
    this.#carry(bytes, () => this.#came(peer, key, bytes))
  }

  #carry(bytes: number, arrive: () => void): void {
    this.#freeMs = Math.max(this.#freeMs, this.nowMs) + bytes / this.#settings.bytesPerMs
    this.carriedBytes += bytes
    this.after(this.#freeMs - this.nowMs + this.#settings.rttMs / 2, arrive)
  }

  #came(peer: string, key: ItemKey, bytes: number): void {
    this.#tell(() => {
      this.scheduler.apply({ type: 'answered', peer, key, bytes }, this.nowMs)
      this.scheduler.apply({ type: 'done', key }, this.nowMs)
    })
    const waiting = this.#waiting.get(key) ?? []
    this.#waiting.delete(key)
    for (const came of waiting) came()
  }
}
