/**
 * One search for the newest record of an appliance.
 *
 * Every record is verified here and passes the release rules (appliance-memory.ts) before it counts, so a holder can
 * withhold but not lie. The search ends when enough holders have answered and enough of them offer the same newest
 * record; a few that offer an older one are outvoted, whoever they are, because the newer one wins.
 */

import { type ErrorCode, RowanError } from '../errors.ts'
import { openLatest, type VerifiedLatest } from '../image/release.ts'
import { compareRecords } from '../image/release-order.ts'
import type { ApplianceMemory } from './appliance-memory.ts'
import type { HolderAnswer } from './directory-client.ts'
import { FoundReplicas } from './found-replicas.ts'
import { AGREEING_WANTED, ANSWERS_WANTED } from './limits.ts'
import { type DirectoryRequest, digestOf, owned } from './messages.ts'

type Ask = (request: Partial<DirectoryRequest>) => Promise<HolderAnswer>

export class LatestSearch {
  readonly replicas = new FoundReplicas()
  readonly refused: { peer: string; code: ErrorCode; message: string }[] = []
  readonly #appliance: string
  readonly #memory: ApplianceMemory
  readonly #now: () => number
  readonly #opened = new Map<string, Promise<VerifiedLatest>>()
  /** What each holder offers, if it passed the rules. */
  readonly #offers = new Map<string, VerifiedLatest>()

  constructor(components: { memory: ApplianceMemory; now: () => number }, settings: { appliance: string }) {
    this.#memory = components.memory
    this.#now = components.now
    this.#appliance = settings.appliance
  }

  /** Asks one holder and takes in what it says. Throws what `ask` throws. */
  async consult(peer: string, ask: Ask): Promise<void> {
    const known = this.#memory.get(this.#appliance)?.latest
    const query = latestQuery(this.#appliance, known)
    const { response, met } = await ask({ latest: query })
    const answer = response.latest
    if (answer === undefined) throw new RowanError('WIRE_INVALID', `the answer of ${peer} lacks what it was asked for`)
    this.replicas.add(answer.replicas, { peer, met })
    if (answer.same && known !== undefined) this.#offers.set(peer, known)
    if (answer.record.byteLength > 0) await this.#takeRecord(peer, answer.record)
    if (!answer.conflict) return
    const second = await ask({ latest: { ...query, knownDigest: new Uint8Array(0), second: true } })
    const other = second.response.latest?.record
    if (other !== undefined && other.byteLength > 0) await this.#takeRecord(peer, other)
  }

  /** Whether more answers are unlikely to change anything. */
  isEnough(answered: number, asked: number): boolean {
    const newest = this.#newest()
    if (newest === undefined || answered < Math.min(ANSWERS_WANTED, asked)) return false
    // A few who keep an appliance at an old record agree on it even then; anybody may have the next one.
    if (newest.expiresMs <= this.#now()) return false
    const agreeing = [...this.#offers.values()].filter(offer => offer.digest === newest.digest).length
    return agreeing >= Math.min(AGREEING_WANTED, asked)
  }

  /** The newest record that was offered in this search and may be used. */
  result(): VerifiedLatest | undefined {
    // What was offered is in the memory, or something newer; unless a conflict that came to light later took it back.
    return this.#offers.size === 0 ? undefined : this.#memory.get(this.#appliance)?.latest
  }

  #newest(): VerifiedLatest | undefined {
    let newest: VerifiedLatest | undefined
    for (const offer of this.#offers.values()) {
      if (newest === undefined || compareRecords(offer, newest) > 0) newest = offer
    }
    return newest
  }

  async #takeRecord(peer: string, bytes: Uint8Array): Promise<void> {
    try {
      const latest = await this.#open(bytes)
      if (latest.appliance !== this.#appliance) {
        throw new RowanError('RECORD_INVALID', `a record of ${latest.appliance} for ${this.#appliance}`)
      }
      await this.#memory.accept(latest, this.#now())
      this.#offers.set(peer, latest)
    } catch (error) {
      if (!(error instanceof RowanError)) throw error
      this.refused.push({ peer, code: error.code, message: error.message })
    }
  }

  /** Twenty holders give the same bytes: they are verified once. */
  #open(bytes: Uint8Array): Promise<VerifiedLatest> {
    const digest = digestOf(bytes)
    let opened = this.#opened.get(digest)
    if (opened === undefined) {
      opened = openLatest(bytes)
      this.#opened.set(digest, opened)
    }
    return opened
  }
}

/** Asks for an appliance's record, unless the holder's is the one that is known. */
export function latestQuery(appliance: string, known: VerifiedLatest | undefined) {
  const knownDigest = owned(known === undefined ? new Uint8Array(0) : Buffer.from(known.digest, 'hex'))
  return { appliance, knownDigest, second: false }
}
