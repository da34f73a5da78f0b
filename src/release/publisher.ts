/**
 * A publisher's work: putting an image into the store, releasing it, renewing what was released.
 *
 * The order is the promise: blocks and index are durable before the record that names them is signed and kept, and the
 * record is durable before anybody hears of it. So a crash, a full disk or a changed file leaves at most blocks that
 * nothing refers to. One change of an appliance at a time.
 */
import { CLOCK_SKEW_MS } from '../directory/limits.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { applianceId, checkName, splitApplianceId } from '../image/names.ts'
import type { Latest, Release, VerifiedLatest } from '../image/release.ts'
import { MAX_LABELS, MAX_RELEASES } from '../image/release-codec.ts'
import { DEFAULT_CHANNEL } from '../image/rollout.ts'
import type { Catalog } from '../store/catalog.ts'
import { checkRollout, moveChannel, sameChannel } from './channels.ts'
import { type BlockStore, type HashedImage, hashImage, type NodeStore } from './hasher.ts'
import { openImage, removeLeftovers } from './image-input.ts'
import { type KnownImages, LatestIssuer, type LatestMemory, type LatestPlace } from './latest-issuer.ts'
import { OwnAppliances } from './own-appliances.ts'
import type { PublisherKeys } from './publisher-keys.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** Changes of appliances that may be under way or wait for their turn. */
export const MAX_CHANGES_WAITING = 64
/** How often it is looked whether a renewal is due, in the time between two. */
const CHECKS_PER_RENEWAL = 8
/** The part of the images that publishing needs. */
export interface ImageStore extends KnownImages {
  writer(): NodeStore & { finish(rootBytes: Uint8Array): Promise<unknown> }
}

export interface PublisherComponents {
  keys: Pick<PublisherKeys, 'publisher' | 'signing'>
  catalog: Catalog
  /** Gives a view of the pool whose blocks stay until it is released. */
  pool: { hold(): BlockStore & { release(): void } }
  images: ImageStore
  directory: LatestPlace
  /** Boots an image that is whole here, keeps the profile of the boot, and says its hash. */
  recordBoot?(
    image: string,
    options: { signal?: AbortSignal | undefined; onProgress(done: number, of: number): void }
  ): Promise<string>
  memory: LatestMemory
  clock: Clock
  log: Log
}

export interface PublisherSettings {
  /** How long a record is valid. */
  latestTtlMs: number
  /** For converted images. */
  temporaryFolder: string
  /** For tests. */
  qemuImg?: string
}

export interface PublishRequest {
  path: string
  name: string
  version: string
  /** Default: stable, for a new version; none, for one that exists. */
  channel?: string | undefined
  /** 1 to 100, default 100. */
  rollout?: number | undefined
  labels?: Record<string, string> | undefined
  /** Boots the image once, and releases it with the profile of that boot. */
  record?: boolean | undefined
  onProgress?: ((progress: PublishProgress) => void) | undefined
  signal?: AbortSignal | undefined
}

export interface PublishProgress {
  phase: 'convert' | 'hash' | 'record' | 'announce'
  done: number
  of: number
}

export interface PublishAnswer {
  appliance: string
  version: string
  image: string
  /** Bytes. */
  size: number
  /** All of them, zero ones included. */
  blocks: number
  zeroBlocks: number
  /** Distinct blocks that the pool did not have. */
  newBlocks: number
  /** Whether the release names a boot profile. */
  profile: boolean
  seconds: number
  channels: string[]
  sequence: number
  /** Whether this very release existed already, in these channels. */
  unchanged: boolean
  /** Of how many holders that were told, how many keep the record. */
  announced: { asked: number; kept: number }
}

export class Publisher {
  readonly #components: PublisherComponents
  readonly #settings: PublisherSettings
  readonly #own: OwnAppliances
  readonly #issuer: LatestIssuer
  /** The end of the last change of each appliance that has one under way. */
  readonly #turns = new Map<string, Promise<unknown>>()
  #changes = 0
  #timer: Timer | undefined
  #stopped = new AbortController()

  private constructor(components: PublisherComponents, settings: PublisherSettings, own: OwnAppliances) {
    this.#components = components
    this.#settings = settings
    this.#own = own
    this.#issuer = new LatestIssuer({ ...components, own }, settings)
  }

  /** @throws RowanError CATALOG_CORRUPT */
  static async open(components: PublisherComponents, settings: PublisherSettings): Promise<Publisher> {
    await removeLeftovers(settings.temporaryFolder)
    return new Publisher(components, settings, await OwnAppliances.open(components.catalog))
  }

  /** Announces what was published before, renews what is due, and goes on doing so until stop(). */
  start(): void {
    this.#stopped = new AbortController()
    for (const latest of this.#own.all()) this.#announce(latest)
    this.#keepRenewing()
  }

  /** Waits for changes under way, which are called off. */
  async stop(): Promise<void> {
    this.#timer?.cancel()
    this.#stopped.abort()
    await Promise.allSettled(this.#turns.values())
  }

  /** Called, synchronously, for each own record that is made from now on. */
  onRecord(listener: (latest: VerifiedLatest) => void): void {
    this.#own.onKept(listener)
  }

  /** The newest record of each own appliance. */
  own(): VerifiedLatest[] {
    return this.#own.all()
  }

  /**
   * Publishes a raw or qcow2 image as a version of an own appliance. All is durable when this resolves.
   *
   * A version that exists with the same content is left as it is; a channel that is asked for is moved to it.
   *
   * @throws RowanError NAME_INVALID, CHANNEL_INVALID, LIMIT_EXCEEDED; KEY_MISSING, DELEGATION_EXPIRED; RELEASE_EXISTS;
   *   what openImage and hashImage throw
   */
  async publish(request: PublishRequest): Promise<PublishAnswer> {
    const { clock, keys } = this.#components
    const startedMs = clock.monotonicMs()
    const appliance = applianceId(keys.publisher, checkName(request.name, 'appliance'))
    checkName(request.version, 'version')
    checkName(request.channel ?? DEFAULT_CHANNEL, 'channel')
    checkRollout(request.rollout ?? 100)
    if (Object.keys(request.labels ?? {}).length > MAX_LABELS) {
      throw new RowanError('LIMIT_EXCEEDED', `a release has at most ${MAX_LABELS} labels`)
    }
    const signal = AbortSignal.any([this.#stopped.signal, ...(request.signal === undefined ? [] : [request.signal])])
    return this.#inTurn(appliance, async () => {
      signal.throwIfAborted()
      const answer = await this.#publish(appliance, { ...request, signal })
      return { ...answer, seconds: Math.round(clock.monotonicMs() - startedMs) / 1000 }
    }).catch(error => {
      throw asRowanError(error, 'INTERNAL', `publishing ${request.path}`)
    })
  }

  /**
   * Signs and puts again every own record that is due: after a day or a third of its life, whichever is shorter; after
   * the delegation was renewed or the release key replaced; and one from the future, which holders refuse: the clock was
   * set back since. What fails is logged, and due again at the next call.
   *
   * @returns how many were renewed
   */
  async renewDue(nowMs: number): Promise<number> {
    const { keys, log } = this.#components
    let renewed = 0
    for (const { appliance } of this.#own.all()) {
      if (this.#stopped.signal.aborted) break
      if (splitApplianceId(appliance).publisher !== keys.publisher) continue // of a root key that was replaced
      try {
        if (await this.#inTurn(appliance, () => this.#renew(appliance, nowMs))) renewed++
      } catch (error) {
        log.warn('cannot renew the record of an own appliance', { appliance, error: asRowanError(error) })
      }
    }
    return renewed
  }

  /**
   * Takes releases off the record of an own appliance and tells the directory. Those that are not on it, or that must
   * stay, are left; the record is durable when this resolves.
   *
   * @param wanted - versions
   * @param leaving - called with the releases that will go, before the record without them is signed; what it throws
   *   stops the removal
   * @returns the releases that went
   * @throws RowanError KEY_MISSING, DELEGATION_EXPIRED, SIGNATURE_INVALID, LIMIT_EXCEEDED, DISK_FULL, STORE_IO
   */
  async removeReleases(
    appliance: string,
    wanted: readonly string[],
    leaving: (releases: Release[], latest: Latest) => Promise<void>
  ): Promise<Release[]> {
    const { signal } = this.#stopped
    return this.#inTurn(appliance, async () => {
      signal.throwIfAborted()
      // The publisher may have worked on another host, where a channel points at one of them by now.
      await this.#issuer.learnNewest(appliance, signal)
      const newest = await this.#issuer.newestKnown(appliance)
      const going = newest === undefined ? [] : removable(newest, wanted)
      if (newest === undefined || going.length === 0) return []
      await leaving(going, newest)
      const staying = newest.releases.filter(release => !going.includes(release))
      const latest = await this.#issuer.issue(appliance, staying, newest.channels)
      await this.#issuer.put(latest, signal)
      return going
    }).catch(error => {
      throw asRowanError(error, 'INTERNAL', `removing releases of ${appliance}`)
    })
  }

  async #publish(appliance: string, request: PublishRequest): Promise<Omit<PublishAnswer, 'seconds'>> {
    const { signal, onProgress } = request
    await this.#components.keys.signing() // whether it can be signed at all, before any work is done
    this.#own.checkRoom(appliance)
    const search = new AbortController()
    const searching = this.#issuer.learnNewest(appliance, AbortSignal.any([search.signal, ...(signal ? [signal] : [])]))
    let image: HashedImage
    let released: { latest: VerifiedLatest; isNew: boolean }
    // Until it is released nothing else says that these blocks are needed.
    const hold = this.#components.pool.hold()
    try {
      try {
        image = await this.#store(appliance, request, hold)
      } catch (error) {
        search.abort()
        throw error
      } finally {
        await searching
      }
      const profile = request.record === true ? await this.#record(image.id, request) : undefined
      released = await this.#release(appliance, image, profile, request)
    } finally {
      hold.release()
    }
    const { latest, isNew } = released
    onProgress?.({ phase: 'announce', done: 0, of: 1 })
    const announced = await this.#issuer.put(latest, signal)
    this.#announce(latest)
    return {
      appliance,
      version: request.version,
      image: image.id,
      size: image.root.sizeBytes,
      blocks: image.root.blocks,
      zeroBlocks: image.root.zeroBlocks,
      newBlocks: image.newBlocks,
      profile: latest.releases.find(({ version }) => version === request.version)?.profile !== undefined,
      channels: latest.channels.filter(({ version }) => version === request.version).map(({ name }) => name),
      sequence: latest.sequence,
      unchanged: !isNew,
      announced
    }
  }

  /** Puts the image into the store: durable, but not yet part of any release. */
  async #store(appliance: string, request: PublishRequest, pool: BlockStore): Promise<HashedImage> {
    const { path, version, signal, onProgress } = request
    const { images, log } = this.#components
    const { temporaryFolder, qemuImg } = this.#settings
    const onConverted = (fraction: number) => onProgress?.({ phase: 'convert', done: fraction, of: 1 })
    const input = await openImage(path, { temporaryFolder, qemuImg, signal, onConverted })
    try {
      checkSameSize(await this.#issuer.newestKnown(appliance), appliance, version, input.sizeBytes)
      const nodes = images.writer()
      const onHashed = (done: number, of: number) => onProgress?.({ phase: 'hash', done, of })
      const image = await hashImage(input, { pool, nodes, log }, { onProgress: onHashed, signal, qemuImg })
      await input.checkUnchanged()
      await nodes.finish(image.rootBytes)
      return image
    } finally {
      await input.close()
    }
  }

  /** @returns the hash of the profile */
  async #record(image: string, { signal, onProgress }: PublishRequest): Promise<string> {
    const { recordBoot } = this.#components
    if (recordBoot === undefined) throw new RowanError('INTERNAL', 'nobody here can record a boot')
    return recordBoot(image, { signal, onProgress: (done, of) => onProgress?.({ phase: 'record', done, of }) })
  }

  /** The record with the release in it; the one that is there when it says all this already. */
  async #release(
    appliance: string,
    image: HashedImage,
    profile: string | undefined,
    request: PublishRequest
  ): Promise<{ latest: VerifiedLatest; isNew: boolean }> {
    const { version, labels = {} } = request
    const name = request.channel ?? DEFAULT_CHANNEL
    const base = await this.#issuer.newestKnown(appliance)
    const releases = base?.releases ?? []
    const channels = base?.channels ?? []
    const before = channels.find(channel => channel.name === name)
    const move = { name, version, rolloutPercent: request.rollout ?? 100 }

    const existing = releases.find(release => release.version === version)
    if (existing !== undefined) {
      if (existing.image !== image.id) {
        const says = `${appliance}@${version} exists with the image ${existing.image}, not ${image.id}`
        throw new RowanError('RELEASE_EXISTS', `${says}; releases are immutable`)
      }
      // Publishing an old version again must not move the default channel back to it by itself.
      const isAsked = request.channel !== undefined || request.rollout !== undefined
      const moved = isAsked ? moveChannel(channels, move, appliance) : channels
      const isSame = sameChannel(
        before,
        moved.find(channel => channel.name === name)
      )
      // A profile is advice, and no part of what was released: it may come later, or be another.
      const isSameProfile = profile === undefined || profile === existing.profile
      if (isSame && isSameProfile) return { latest: await this.#issuer.keep(base!), isNew: false }
      const kept = isSameProfile ? releases : releases.map(each => (each === existing ? { ...each, profile } : each))
      return { latest: await this.#issuer.issue(appliance, kept, moved), isNew: true }
    }

    if (releases.length >= MAX_RELEASES) {
      throw new RowanError(
        'LIMIT_EXCEEDED',
        `${appliance} has ${releases.length} releases; the limit is ${MAX_RELEASES}`
      )
    }
    const parent = before?.version ?? channels.find(channel => channel.name === DEFAULT_CHANNEL)?.version
    const release: Release = {
      version,
      image: image.id,
      sizeBytes: image.root.sizeBytes,
      blocks: image.root.blocks,
      zeroBlocks: image.root.zeroBlocks,
      ...(parent === undefined ? {} : { parent }),
      labels,
      publishedMs: this.#components.clock.now(),
      ...(profile === undefined ? {} : { profile })
    }
    const moved = moveChannel(channels, move, appliance)
    return { latest: await this.#issuer.issue(appliance, [...releases, release], moved), isNew: true }
  }

  async #renew(appliance: string, nowMs: number): Promise<boolean> {
    const intervalMs = Math.min(DAY_MS, this.#settings.latestTtlMs / 3)
    const { delegation } = await this.#components.keys.signing()
    const isDue = ({ issuedMs, delegation: signed }: VerifiedLatest) =>
      nowMs - issuedMs >= intervalMs || issuedMs > nowMs + CLOCK_SKEW_MS || Buffer.compare(signed, delegation) !== 0
    if (!isDue((await this.#issuer.newestKnown(appliance))!)) return false
    // The publisher may have worked on another host: two records with one number would be refused, both.
    await this.#issuer.learnNewest(appliance, this.#stopped.signal)
    const newest = (await this.#issuer.newestKnown(appliance))!
    if (newest.digest !== this.#own.get(appliance)?.digest) {
      // To whoever has one host only, this says that somebody else has the key.
      const { sequence, releases } = newest
      const known = new Set(this.#own.get(appliance)?.releases.map(({ version }) => version))
      const versions = releases.map(({ version }) => version).filter(version => !known.has(version))
      this.#components.log.warn('another host has signed for this publisher', { appliance, sequence, versions })
    }
    const latest = isDue(newest)
      ? await this.#issuer.issue(appliance, newest.releases, newest.channels)
      : await this.#issuer.keep(newest)
    await this.#issuer.put(latest, this.#stopped.signal)
    return true
  }

  #announce(latest: VerifiedLatest): void {
    this.#issuer.announceReplicas(latest).catch(error => {
      this.#components.log.warn('cannot announce own images', { appliance: latest.appliance, error })
    })
  }

  #keepRenewing(): void {
    const { clock, log } = this.#components
    const checkEveryMs = Math.min(DAY_MS, this.#settings.latestTtlMs / 3) / CHECKS_PER_RENEWAL
    const check = () => {
      this.renewDue(clock.now())
        .catch(error => log.warn('renewing own records failed', { error }))
        .finally(() => {
          if (!this.#stopped.signal.aborted) this.#timer = clock.after(checkEveryMs, check)
        })
    }
    check()
  }

  /** Runs `change` after the changes of this appliance that were asked for before. @throws LIMIT_EXCEEDED */
  async #inTurn<T>(appliance: string, change: () => Promise<T>): Promise<T> {
    if (this.#changes >= MAX_CHANGES_WAITING) {
      throw new RowanError('LIMIT_EXCEEDED', `${MAX_CHANGES_WAITING} changes of appliances are under way already`)
    }
    this.#changes++
    const before = this.#turns.get(appliance) ?? Promise.resolve()
    const turn = before.then(change, change)
    this.#turns.set(appliance, turn)
    try {
      return await turn
    } finally {
      this.#changes--
      if (this.#turns.get(appliance) === turn) this.#turns.delete(appliance)
    }
  }
}

/** Of the versions that are wanted to go, those that may by the record itself: no channel needs them, and one is left. */
function removable({ releases, channels }: Latest, wanted: readonly string[]): Release[] {
  const needed = new Set(channels.flatMap(({ version, previous }) => [version, previous]))
  const going = releases.filter(({ version }) => wanted.includes(version) && !needed.has(version))
  return going.length === releases.length ? going.slice(0, -1) : going
}

/** A version that exists in another size need not be hashed to be refused. */
function checkSameSize(base: Latest | undefined, appliance: string, version: string, sizeBytes: number): void {
  const existing = base?.releases.find(release => release.version === version)
  if (existing === undefined || existing.sizeBytes === sizeBytes) return
  const says = `${appliance}@${version} exists with ${existing.sizeBytes} bytes, not ${sizeBytes}`
  throw new RowanError('RELEASE_EXISTS', `${says}; releases are immutable`)
}
