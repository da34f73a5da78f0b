/**
 * A publisher's work: putting an image into the store, releasing it, taking releases off again.
 *
 * The order is the promise: blocks and index are durable before the record that names them is signed and kept, and the
 * record is durable before anybody hears of it. So a crash, a full disk or a changed file leaves at most blocks that
 * nothing refers to.
 *
 * What a record says next is decided in next-record.ts, it is signed and told by latest-issuer.ts, and renewed by
 * renewal.ts.
 *
 * Owns: whose turn it is. One change of an appliance at a time, renewals included.
 */
import type { Clock, Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { applianceId, checkName } from '../image/names.ts'
import type { Latest, Release, VerifiedLatest } from '../image/release.ts'
import { MAX_LABEL_BYTES } from '../image/release-checks.ts'
import { MAX_LABELS } from '../image/release-codec.ts'
import { DEFAULT_CHANNEL } from '../image/rollout.ts'
import { checkWebSeeds } from '../image/web-seed.ts'
import type { Catalog } from '../store/catalog.ts'
import { Turns } from '../turns.ts'
import { checkRollout } from './channels.ts'
import { type BlockStore, type HashedImage, hashImage, type NodeStore } from './hasher.ts'
import { openImage, removeLeftovers } from './image-input.ts'
import { type KnownImages, LatestIssuer, type LatestMemory, type LatestPlace } from './latest-issuer.ts'
import { checkSameSize, recordWith, removable } from './next-record.ts'
import { OwnAppliances } from './own-appliances.ts'
import type { PublisherKeys } from './publisher-keys.ts'
import { Renewal } from './renewal.ts'

/** Changes of appliances that may be under way or wait for their turn. */
const MAX_CHANGES_WAITING = 64

/** The part of the images that publishing needs. */
export interface ImageStore extends KnownImages {
  writer(): NodeStore & { finish(rootBytes: Uint8Array): Promise<unknown>; close(): void }
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
  /** URLs below which the image lies, or will lie, as files; absent: as the release has them. */
  webSeeds?: string[] | undefined
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
  readonly #renewal: Renewal
  readonly #turns = new Turns()
  #changes = 0
  #stopped = new AbortController()

  private constructor(components: PublisherComponents, settings: PublisherSettings, own: OwnAppliances) {
    this.#components = components
    this.#settings = settings
    this.#own = own
    this.#issuer = new LatestIssuer({ ...components, own }, settings)
    const { keys, clock, log } = components
    this.#renewal = new Renewal(
      { keys, own, issuer: this.#issuer, inTurn: (appliance, change) => this.#inTurn(appliance, change), clock, log },
      settings
    )
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
    this.#renewal.start()
  }

  /** Waits for changes under way, which are called off. */
  async stop(): Promise<void> {
    this.#renewal.stop()
    this.#stopped.abort()
    await this.#turns.idle()
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
    checkLabels(request.labels ?? {})
    const signal = AbortSignal.any([this.#stopped.signal, ...(request.signal === undefined ? [] : [request.signal])])
    return this.#inTurn(appliance, async () => {
      signal.throwIfAborted()
      const answer = await this.#publish(appliance, { ...request, signal })
      return { ...answer, seconds: Math.round(clock.monotonicMs() - startedMs) / 1000 }
    }).catch(error => {
      throw asRowanError(error, 'INTERNAL', `publishing ${request.path}`)
    })
  }

  /** Renews the own records that are due. @returns how many were */
  renewDue(nowMs: number): Promise<number> {
    return this.#renewal.renewDue(nowMs)
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
    checkWebSeeds(request.webSeeds)
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
      try {
        const onHashed = (done: number, of: number) => onProgress?.({ phase: 'hash', done, of })
        const image = await hashImage(input, { pool, nodes, log }, { onProgress: onHashed, signal, qemuImg })
        await input.checkUnchanged()
        await nodes.finish(image.rootBytes)
        return image
      } finally {
        nodes.close()
      }
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
    const base = await this.#issuer.newestKnown(appliance)
    const next = recordWith(appliance, base, { ...request, image, profile }, this.#components.clock.now())
    if (next === undefined) return { latest: await this.#issuer.keep(base!), isNew: false }
    return { latest: await this.#issuer.issue(appliance, next.releases, next.channels), isNew: true }
  }

  #announce(latest: VerifiedLatest): void {
    this.#issuer.announceReplicas(latest).catch(error => {
      this.#components.log.warn('cannot announce own images', { appliance: latest.appliance, error })
    })
  }

  /** Runs `change` after the changes of this appliance that were asked for before. @throws LIMIT_EXCEEDED */
  async #inTurn<T>(appliance: string, change: () => Promise<T>): Promise<T> {
    if (this.#changes >= MAX_CHANGES_WAITING) {
      throw new RowanError('LIMIT_EXCEEDED', `${MAX_CHANGES_WAITING} changes of appliances are under way already`)
    }
    this.#changes++
    try {
      return await this.#turns.run(appliance, change)
    } finally {
      this.#changes--
    }
  }
}

/** What a record cannot hold is told before an image is read. @throws RowanError LIMIT_EXCEEDED */
function checkLabels(labels: Record<string, string>): void {
  const texts = Object.entries(labels)
  if (texts.length > MAX_LABELS) throw new RowanError('LIMIT_EXCEEDED', `a release has at most ${MAX_LABELS} labels`)
  for (const text of texts.flat()) {
    const bytes = Buffer.byteLength(text)
    if (bytes <= MAX_LABEL_BYTES) continue
    const says = `a label's name or value has ${bytes} bytes, and may have ${MAX_LABEL_BYTES}`
    throw new RowanError('LIMIT_EXCEEDED', says)
  }
}
