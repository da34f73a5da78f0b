/**
 * Makes the next signed record of an own appliance, keeps it, and tells the directory.
 *
 * A record is made from the newest one known: this peer's own, or one that the directory has because the publisher
 * worked on another host meanwhile. Its sequence number is above every one seen under the same delegation, those in
 * conflict included; a new delegation counts from one again, so it matters to nobody what the key before it has signed.
 * It is durable here before anybody hears of it. Telling the directory is best effort: the first peer of a network
 * publishes too, and records are put again with each renewal.
 *
 * Owns: what was issued (own-appliances.ts). Does not own: when (publisher.ts, which also keeps changes apart).
 */

import { deadline } from '../deadline.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { type Channel, openLatest, type Release, sealLatest, type VerifiedLatest } from '../image/release.ts'
import { compareRecords, type RecordOrder } from '../image/release-order.ts'
import type { OwnAppliances } from './own-appliances.ts'
import type { PublisherKeys } from './publisher-keys.ts'

/** How long the directory is asked for a newer record; when publishing, the image is hashed meanwhile. */
const FIND_LIMIT_MS = 10_000
/** How long telling the directory may hold up an answer. */
const PUT_LIMIT_MS = 10_000

/** Releases of one appliance, beside those of its channels, that this peer announces. */
const MAX_OLD_RELEASES_ANNOUNCED = 32

/** The part of the directory that publishing needs. */
export interface LatestPlace {
  findLatest(appliance: string, options: { signal: AbortSignal }): Promise<{ latest?: VerifiedLatest | undefined }>
  putLatest(bytes: Uint8Array, options: { signal: AbortSignal }): Promise<{ asked: number; kept: number }>
  announceReplica(image: string, appliance: string | undefined, complete: boolean): void
}

/** The part of the appliance memory that publishing needs. */
export interface LatestMemory {
  get(appliance: string): { latest: VerifiedLatest } | undefined
  /** The numbers of the newest one seen, usable or not. */
  state(appliance: string): RecordOrder | undefined
  accept(latest: VerifiedLatest, nowMs: number): Promise<unknown>
}

/** The part of the images that announcing needs. */
export interface KnownImages {
  open(id: string): Promise<{ recount(): Promise<void>; readonly complete: boolean } | undefined>
}

export interface IssuerComponents {
  keys: Pick<PublisherKeys, 'publisher' | 'signing'>
  own: OwnAppliances
  directory: LatestPlace
  memory: LatestMemory
  images: KnownImages
  clock: Clock
  log: Log
}

export class LatestIssuer {
  readonly #components: IssuerComponents
  readonly #latestTtlMs: number

  constructor(components: IssuerComponents, settings: { latestTtlMs: number }) {
    this.#components = components
    this.#latestTtlMs = settings.latestTtlMs
  }

  /**
   * The newest of the usable records that are here: what the next one is made from. @throws as PublisherKeys.signing
   *
   * Once the release key was replaced here, what the old one has signed elsewhere is left aside: it may have been stolen.
   */
  async newestKnown(appliance: string): Promise<VerifiedLatest | undefined> {
    const { keys, own, memory } = this.#components
    const { delegationSequence } = await keys.signing()
    const ours = own.get(appliance)
    const seen = memory.get(appliance)?.latest
    if (ours === undefined || seen === undefined) return ours ?? seen
    const isReplaced = ours.delegationSequence < delegationSequence
    if (isReplaced && seen.delegationSequence === ours.delegationSequence) return ours
    return compareRecords(seen, ours) > 0 ? seen : ours
  }

  /** Asks the directory for a newer record, into the memory; that nobody has one is no failure. */
  async learnNewest(appliance: string, signal?: AbortSignal): Promise<void> {
    const { directory, memory, clock, log } = this.#components
    const limit = deadline(clock, FIND_LIMIT_MS, signal)
    try {
      const { latest } = await directory.findLatest(appliance, { signal: limit.signal })
      if (latest !== undefined) await memory.accept(latest, clock.now())
    } catch (error) {
      log.info('going on from what is known here', { appliance, why: asRowanError(error).message })
    } finally {
      limit.clear()
    }
  }

  /**
   * Signs the next record of an appliance and keeps it.
   *
   * @throws RowanError KEY_MISSING, DELEGATION_EXPIRED, RECORD_INVALID (too large, or no number is left),
   *   SIGNATURE_INVALID (the release key was revoked from another host), DISK_FULL, STORE_IO; nothing is issued then
   */
  async issue(appliance: string, releases: Release[], channels: Channel[]): Promise<VerifiedLatest> {
    const { keys, own, memory, clock } = this.#components
    const { releaseKey, delegation, delegationSequence, expiresMs } = await keys.signing()
    const issuedMs = clock.now()
    const seen = [own.get(appliance), memory.state(appliance)].filter(r => r?.delegationSequence === delegationSequence)
    const before = Math.max(0, ...seen.map(record => record!.sequence))
    if (before >= Number.MAX_SAFE_INTEGER) {
      const says = `the last number for a record of ${appliance} was used, which only somebody else with the key does`
      throw new RowanError('RECORD_INVALID', `${says}; \`rowan key rotate\` starts again with a new one`)
    }
    const sealed = await sealLatest(
      {
        appliance,
        sequence: before + 1,
        issuedMs,
        expiresMs: Math.min(issuedMs + this.#latestTtlMs, expiresMs),
        channels,
        releases,
        delegation
      },
      releaseKey
    )
    return this.keep(await openLatest(sealed))
  }

  /** Keeps a record as this peer's own and newest, durably. @throws as issue */
  async keep(latest: VerifiedLatest): Promise<VerifiedLatest> {
    const { own, memory, clock } = this.#components
    const before = own.get(latest.appliance)
    await own.keep(latest)
    try {
      await memory.accept(latest, clock.now())
    } catch (error) {
      await own.restore(latest.appliance, before)
      if (!(error instanceof RowanError) || error.code !== 'SIGNATURE_INVALID') throw error
      const says = 'the release key here was replaced on another host of this publisher'
      throw new RowanError('SIGNATURE_INVALID', `${says}; \`rowan key rotate\` takes over again`, { cause: error })
    }
    return latest
  }

  /** @returns how many holders were told, and how many keep it; zeros when none can be reached */
  async put(latest: VerifiedLatest, signal?: AbortSignal): Promise<{ asked: number; kept: number }> {
    const { directory, clock, log } = this.#components
    const limit = deadline(clock, PUT_LIMIT_MS, signal)
    try {
      const { asked, kept } = await directory.putLatest(latest.bytes, { signal: limit.signal })
      return { asked, kept }
    } catch (error) {
      const { appliance } = latest
      log.warn('no holder was told of a new record; it is put again later', { appliance, error: asRowanError(error) })
      return { asked: 0, kept: 0 }
    } finally {
      limit.clear()
    }
  }

  /**
   * This peer serves what it published: the releases that a channel points at, which are announced with the appliance
   * too, and the newest of the others.
   */
  async announceReplicas(latest: VerifiedLatest): Promise<void> {
    const { directory, images } = this.#components
    const current = new Set(latest.channels.flatMap(({ version, previous }) => [version, previous]))
    const newest = new Set(latest.releases.slice(-MAX_OLD_RELEASES_ANNOUNCED))
    for (const release of latest.releases) {
      const isCurrent = current.has(release.version)
      if (!isCurrent && !newest.has(release)) continue
      const image = await images.open(release.image)
      await image?.recount() // large images are not counted yet when they are opened
      if (image?.complete === true) {
        directory.announceReplica(release.image, isCurrent ? latest.appliance : undefined, true)
      }
    }
  }
}
