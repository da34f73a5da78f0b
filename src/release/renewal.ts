/**
 * Renews the records of this publisher's appliances, so that none expires while its daemon runs.
 *
 * A record is due after a day or a third of its life, whichever is shorter; after the delegation was renewed or the
 * release key replaced; and when it is from the future, which holders refuse: the clock was set back since. Before one is
 * signed, the directory is asked for a newer one, because the publisher may have worked on another host; what that host
 * released is taken over, and logged.
 *
 * Owns: the timer, and what calls a renewal off. Does not own: the records (own-appliances.ts), nor whose turn it is to
 * change an appliance (publisher.ts).
 */
import { CLOCK_SKEW_MS } from '../directory/limits.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { splitApplianceId } from '../image/names.ts'
import type { VerifiedLatest } from '../image/release.ts'
import type { LatestIssuer } from './latest-issuer.ts'
import type { OwnAppliances } from './own-appliances.ts'
import type { PublisherKeys } from './publisher-keys.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** How often it is looked whether a renewal is due, in the time between two. */
const CHECKS_PER_RENEWAL = 8

interface RenewalComponents {
  keys: Pick<PublisherKeys, 'publisher' | 'signing'>
  own: OwnAppliances
  issuer: LatestIssuer
  /** Runs a change of an appliance when no other is under way. */
  inTurn<T>(appliance: string, change: () => Promise<T>): Promise<T>
  clock: Clock
  log: Log
}

export class Renewal {
  readonly #components: RenewalComponents
  readonly #intervalMs: number
  #timer: Timer | undefined
  #stopped = new AbortController()

  constructor(components: RenewalComponents, settings: { latestTtlMs: number }) {
    this.#components = components
    this.#intervalMs = Math.min(DAY_MS, settings.latestTtlMs / 3)
  }

  /** Renews what is due, now and from time to time until stop(). */
  start(): void {
    this.#stopped = new AbortController()
    this.#check()
  }

  /** Calls off what is under way; whoever keeps the turns waits for it. */
  stop(): void {
    this.#timer?.cancel()
    this.#stopped.abort()
  }

  /**
   * Signs and puts again every own record that is due. What fails is logged, and due again at the next call.
   *
   * @returns how many were renewed
   */
  async renewDue(nowMs: number): Promise<number> {
    const { keys, own, inTurn, log } = this.#components
    let renewed = 0
    for (const { appliance } of own.all()) {
      if (this.#stopped.signal.aborted) break
      if (splitApplianceId(appliance).publisher !== keys.publisher) continue // of a root key that was replaced
      try {
        if (await inTurn(appliance, () => this.#renew(appliance, nowMs))) renewed++
      } catch (error) {
        log.warn('cannot renew the record of an own appliance', { appliance, error: asRowanError(error) })
      }
    }
    return renewed
  }

  async #renew(appliance: string, nowMs: number): Promise<boolean> {
    const { keys, own, issuer, log } = this.#components
    const { delegation } = await keys.signing()
    const isDue = ({ issuedMs, delegation: signed }: VerifiedLatest) =>
      nowMs - issuedMs >= this.#intervalMs ||
      issuedMs > nowMs + CLOCK_SKEW_MS ||
      Buffer.compare(signed, delegation) !== 0
    if (!isDue((await issuer.newestKnown(appliance))!)) return false
    // The publisher may have worked on another host: two records with one number would be refused, both.
    await issuer.learnNewest(appliance, this.#stopped.signal)
    const newest = (await issuer.newestKnown(appliance))!
    if (newest.digest !== own.get(appliance)?.digest) {
      // To whoever has one host only, this says that somebody else has the key.
      const { sequence, releases } = newest
      const known = new Set(own.get(appliance)?.releases.map(({ version }) => version))
      const versions = releases.map(({ version }) => version).filter(version => !known.has(version))
      log.warn('another host has signed for this publisher', { appliance, sequence, versions })
    }
    const latest = isDue(newest)
      ? await issuer.issue(appliance, newest.releases, newest.channels)
      : await issuer.keep(newest)
    await issuer.put(latest, this.#stopped.signal)
    return true
  }

  #check(): void {
    const { clock, log } = this.#components
    this.renewDue(clock.now())
      .catch(error => log.warn('renewing own records failed', { error }))
      .finally(() => {
        if (this.#stopped.signal.aborted) return
        this.#timer = clock.after(this.#intervalMs / CHECKS_PER_RENEWAL, () => this.#check())
      })
  }
}
