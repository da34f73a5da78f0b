/**
 * Announces what this peer serves: seals its replica record and puts it to the holders of the image or the appliance.
 *
 * At an appliance's holders `latest` is evened out on the way: a holder that has an older record than this peer, or
 * none, gets this peer's; from one that has a newer one it is taken. So records live on as long as anybody serves the
 * images, also while the publisher is away, and holders that come new to a key are filled within a renewal.
 *
 * What is said of one image under one key is said in turn: a holder that heard of a withdrawal remembers nothing of it, and would take
 * a renewal that was under way, and comes behind it, for a new announcement.
 */

import type { PrivateKey } from '@libp2p/interface'
import type { Clock, Log } from '../environment.ts'
import { openLatest } from '../image/release.ts'
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'
import type { Announcement } from './announce-plan.ts'
import type { ApplianceMemory } from './appliance-memory.ts'
import type { HolderAnswer } from './directory-client.ts'
import type { HolderCircle } from './holder-circle.ts'
import { kadKey } from './key.ts'
import { latestQuery } from './latest-search.ts'
import { owned, TABLE } from './messages.ts'
import { sealReplica } from './replica-record.ts'
import type { CloserPeer } from './routing.ts'

export interface OwnReplicasComponents {
  circle: HolderCircle
  memory: ApplianceMemory
  catalog: Catalog
  clock: Clock
  log: Log
  privateKey: PrivateKey
  addresses: () => string[]
}

export class OwnReplicas {
  readonly #components: OwnReplicasComponents
  readonly #self: string
  readonly #sequences: Table<number>
  /** By what is being said, the end of it. */
  readonly #turns = new Map<string, Promise<unknown>>()
  #lastSequence = 0

  constructor(components: OwnReplicasComponents) {
    this.#components = components
    this.#self = components.privateKey.publicKey.toString()
    this.#sequences = components.catalog.table('directory', jsonCodec<number>())
  }

  async start(): Promise<void> {
    this.#lastSequence = (await this.#sequences.get('replica-sequence')) ?? 0
  }

  /**
   * @param ttlMs - 0 withdraws what was announced before
   * @returns how many holders were asked, and how many keep it; none while this peer has no address to announce
   */
  async announce(what: Announcement, ttlMs: number, signal: AbortSignal): Promise<{ asked: number; kept: number }> {
    const name = `${what.image} ${what.appliance ?? ''}`
    const before = this.#turns.get(name) ?? Promise.resolve()
    const announced = before.catch(() => undefined).then(() => this.#announce(what, ttlMs, signal))
    this.#turns.set(name, announced)
    try {
      return await announced
    } finally {
      if (this.#turns.get(name) === announced) this.#turns.delete(name)
    }
  }

  async #announce(what: Announcement, ttlMs: number, signal: AbortSignal): Promise<{ asked: number; kept: number }> {
    const { circle, memory } = this.#components
    const { appliance, image } = what
    const record = await this.#seal(what, ttlMs)
    if (record === undefined) return { asked: 0, kept: 0 }
    const put = { table: TABLE.replicas, record: owned(record) }
    if (appliance === undefined) return circle.put(kadKey('replicas', image), put, signal)
    return circle.put(kadKey('latest', appliance), put, signal, {
      request: () => ({ latest: latestQuery(appliance, memory.get(appliance)?.latest) }),
      answered: (holder, answer, one) => this.#evenOut(appliance, holder, answer, one)
    })
  }

  async #seal(what: Announcement, ttlMs: number): Promise<Uint8Array | undefined> {
    const { clock, privateKey, addresses, log } = this.#components
    const own = addresses()
    if (own.length === 0) return undefined
    const now = clock.now()
    const sequence = Math.max(now, this.#lastSequence + 1)
    this.#lastSequence = sequence
    // Written behind: should it be lost, the clock gives a higher number, unless it was set back.
    this.#sequences
      .put('replica-sequence', sequence)
      .catch(error => log.warn('the last sequence number could not be written down', { error: String(error) }))
    const { image, complete } = what
    return sealReplica(
      { image, peer: this.#self, addresses: own, complete, sequence, expiresMs: now + ttlMs },
      privateKey
    )
  }

  async #evenOut(appliance: string, holder: CloserPeer, answer: HolderAnswer, signal: AbortSignal): Promise<void> {
    const { circle, memory, clock, log } = this.#components
    const theirs = answer.response.latest
    if (theirs === undefined || theirs.same || theirs.conflict) return
    if (theirs.record.byteLength > 0) {
      try {
        const offered = await openLatest(theirs.record)
        if (offered.appliance === appliance) await memory.accept(offered, clock.now())
      } catch (error) {
        log.debug('a holder has a record that is refused here', { peer: holder.peer, appliance, error: String(error) })
      }
    }
    const mine = memory.get(appliance)?.latest
    if (mine === undefined || mine.expiresMs <= clock.now()) return
    if (Buffer.compare(mine.bytes, theirs.record) === 0) return
    await circle.ask(holder, { puts: [{ table: TABLE.latest, record: owned(mine.bytes) }] }, signal)
  }
}
