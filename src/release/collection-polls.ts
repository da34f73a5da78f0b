/**
 * Asks, again and again, who uses the versions of one's own appliances, and keeps what follows from it.
 *
 * All versions are asked for, not only those that could go: a holder's tenure for a release begins when it is first asked
 * or told of it, and lasts while it is. A round asks a few at a time; another begins a third of the TTL of running leases
 * after the last, or 20 minutes. What the policy makes of it (collection-policy.ts) is in the catalog after each poll, so a
 * restart goes on where it was; the time between counts for nothing.
 *
 * Owns: the tables `collection` and `sharer-history`. Does not own: the verdict, and what is done (collector.ts).
 */
import { deadline } from '../deadline.ts'
import type { CloserPeer } from '../directory/routing.ts'
import type { SharerCount } from '../directory/sharer-count.ts'
import type { Clock, Log, Random, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { Latest, Release } from '../image/release.ts'
import type { Catalog, Table } from '../store/catalog.ts'
import {
  type CollectionSettings,
  type CollectionState,
  newCollectionState,
  observe,
  type Poll,
  paused
} from './collection-policy.ts'
import { type CollectionRecord, collectionCodec } from './collection-record.ts'
import { SAMPLE_EVERY_MS, SharerHistory } from './sharer-history.ts'

/** Versions asked for in one round; the appliances with the fewest come first. */
const MAX_POLLED_VERSIONS = 4096
const POLLS_AT_ONCE = 4
const POLL_LIMIT_MS = 45_000
const MAX_INTERVAL_MS = 20 * 60_000
/** Rounds come this part sooner or later, so that publishers do not fall into step. */
const JITTER = 0.1

export interface PollComponents {
  catalog: Catalog
  directory: {
    findReplicas(image: string, options: { signal: AbortSignal }): Promise<CloserPeer[]>
    countSharers(
      release: string,
      options: { replicas: CloserPeer[]; signal: AbortSignal }
    ): Promise<Pick<SharerCount, 'count' | 'exact' | 'error' | 'holders' | 'witnesses'>>
  }
  publisher: { own(): readonly Latest[]; onRecord(listener: (latest: Latest) => void): void }
  clock: Clock
  random: Random
  log: Log
}

interface Watched {
  state: CollectionState
  /** When it was last asked for in this run, on the clock that does not jump. */
  polledMs: number | undefined
  sampledMs: number | undefined
  /** A channel has pointed at it since it was last asked for. */
  pointedAt: boolean
}

export class CollectionPolls {
  readonly #components: PollComponents
  readonly #settings: CollectionSettings
  readonly #table: Table<CollectionRecord | undefined>
  readonly #watched = new Map<string, Watched>()
  readonly #stopped = new AbortController()
  readonly history: SharerHistory
  #round: Promise<void> | undefined
  #timer: Timer | undefined

  private constructor(components: PollComponents, settings: CollectionSettings) {
    this.#components = components
    this.#settings = settings
    this.#table = components.catalog.table('collection', collectionCodec)
    this.history = new SharerHistory(components.catalog)
    components.publisher.onRecord(latest => this.#pointed(latest))
  }

  /** @throws STORE_IO */
  static async open(components: PollComponents, settings: CollectionSettings): Promise<CollectionPolls> {
    const polls = new CollectionPolls(components, settings)
    const now = components.clock.now()
    for await (const [release, record] of polls.#table.entries()) {
      if (record === undefined)
        components.log.warn('what was known of the use of a version cannot be read', { release })
      else polls.#watched.set(release, watched(paused(record.state, pauseSince(record.savedMs, now))))
    }
    return polls
  }

  /** @param afterRound - called after each round that it began by itself */
  start(afterRound: () => Promise<void>): void {
    const intervalMs = Math.min(this.#settings.runningTtlMs / 3, MAX_INTERVAL_MS)
    const again = async () => {
      const { clock, random, log } = this.#components
      const startedMs = clock.monotonicMs()
      try {
        await this.pollAll()
        await afterRound()
      } catch (error) {
        log.warn('it could not be found out who uses the own versions', { error: asRowanError(error) })
      }
      if (this.#stopped.signal.aborted) return
      const dueMs = startedMs + intervalMs * (1 + JITTER * (2 * random.unit() - 1))
      this.#timer = clock.after(Math.max(intervalMs / 10, dueMs - clock.monotonicMs()), again)
    }
    void again()
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    this.#timer?.cancel()
    await this.#round
  }

  /** What is known of the use of a release, `PUBLISHER/NAME@VERSION`. */
  state(release: string): CollectionState {
    return this.#watched.get(release)?.state ?? newCollectionState()
  }

  /** Asks for all own versions now; joins a round that is under way. Never rejects. */
  pollAll(): Promise<void> {
    this.#round ??= this.#pollAll().finally(() => {
      this.#round = undefined
    })
    return this.#round
  }

  async #pollAll(): Promise<void> {
    const waiting = this.#ownReleases()
    await this.#forgetOthers(new Set(waiting.map(({ name }) => name)))
    const polled = waiting.slice(0, MAX_POLLED_VERSIONS)
    if (polled.length < waiting.length) {
      const left = waiting.length - polled.length
      this.#components.log.warn('too many own versions: nobody is asked who uses some', { left })
    }
    const replicas = new Map<string, Promise<CloserPeer[]>>()
    const workers = Array.from({ length: POLLS_AT_ONCE }, async () => {
      for (let next = polled.shift(); next !== undefined; next = polled.shift()) {
        if (this.#stopped.signal.aborted) return
        await this.#poll(next, replicas)
      }
    })
    await Promise.all(workers)
  }

  #ownReleases(): { name: string; release: Release; isPointedAt: boolean }[] {
    const own = this.#components.publisher.own().toSorted((a, b) => a.releases.length - b.releases.length)
    return own.flatMap(latest => {
      const pointed = pointedVersions(latest)
      return latest.releases.map(release => ({
        name: `${latest.appliance}@${release.version}`,
        release,
        isPointedAt: pointed.has(release.version)
      }))
    })
  }

  /** Never rejects. */
  async #poll(
    { name, release, isPointedAt }: { name: string; release: Release; isPointedAt: boolean },
    replicas: Map<string, Promise<CloserPeer[]>>
  ): Promise<void> {
    const { directory, clock, log } = this.#components
    const known = this.#watched.get(name) ?? watched(newCollectionState())
    this.#watched.set(name, known)
    const startedMs = clock.monotonicMs()
    const limit = deadline(clock, POLL_LIMIT_MS, this.#stopped.signal)
    let answer: Awaited<ReturnType<PollComponents['directory']['countSharers']>> | undefined
    try {
      const found = replicas.get(release.image) ?? this.#replicasOf(release.image, limit.signal)
      replicas.set(release.image, found)
      answer = await directory.countSharers(name, { replicas: await found, signal: limit.signal })
    } catch (error) {
      log.debug('it could not be found out who uses a version', { release: name, error: asRowanError(error) })
    } finally {
      limit.clear()
    }
    // What was asked while this peer stops says nothing.
    if (this.#stopped.signal.aborted) return
    const elapsedMs = known.polledMs === undefined ? 0 : startedMs - known.polledMs
    const pointedAt = isPointedAt || known.pointedAt
    known.state = observe(
      known.state,
      { poll: answer === undefined ? null : pollOf(answer), elapsedMs, pointedAt },
      this.#settings
    )
    known.polledMs = startedMs
    known.pointedAt = false
    await this.#keep(name, known, answer)
  }

  async #replicasOf(image: string, signal: AbortSignal): Promise<CloserPeer[]> {
    try {
      return await this.#components.directory.findReplicas(image, { signal })
    } catch (error) {
      this.#components.log.debug('no replicas could be asked who uses a version', { image, error: String(error) })
      return []
    }
  }

  /** Never rejects: what cannot be written down is known all the same until the next start. */
  async #keep(
    name: string,
    known: Watched,
    answer: Pick<SharerCount, 'count' | 'exact' | 'error'> | undefined
  ): Promise<void> {
    const { clock, log } = this.#components
    const nowMs = clock.monotonicMs()
    try {
      await this.#table.put(name, { state: known.state, savedMs: clock.now() })
      if (answer === undefined || nowMs - (known.sampledMs ?? Number.NEGATIVE_INFINITY) < SAMPLE_EVERY_MS) return
      known.sampledMs = nowMs
      const { count, exact, error } = answer
      await this.history.add(name, { atMs: clock.now(), count, exact, ...(error === undefined ? {} : { error }) })
    } catch (error) {
      log.warn('what is known of the use of a version could not be written down', {
        release: name,
        error: asRowanError(error, 'STORE_IO')
      })
    }
  }

  /** Versions that are not listed any more. */
  async #forgetOthers(listed: ReadonlySet<string>): Promise<void> {
    const { catalog, log } = this.#components
    for (const release of [...this.#watched.keys()].filter(each => !listed.has(each))) {
      try {
        await catalog.write([this.#table.deleteOp(release), ...(await this.history.forgetOps(release))])
        this.#watched.delete(release)
      } catch (error) {
        log.warn('a removed version could not be forgotten', { release, error: asRowanError(error, 'STORE_IO') })
      }
    }
  }

  /** A record was made: what it points at was pointed at, also if the next one points elsewhere before anybody is asked. */
  #pointed(latest: Latest): void {
    for (const version of pointedVersions(latest)) {
      const known = this.#watched.get(`${latest.appliance}@${version}`)
      if (known !== undefined) known.pointedAt = true
    }
  }
}

function watched(state: CollectionState): Watched {
  return { state, polledMs: undefined, sampledMs: undefined, pointedAt: false }
}

function pointedVersions({ channels }: Latest): Set<string> {
  return new Set(
    channels.flatMap(({ version, previous }) => (previous === undefined ? [version] : [version, previous]))
  )
}

/** Undefined when the clock was set back since: nobody knows how long it was. */
function pauseSince(savedMs: number, nowMs: number): number | undefined {
  return nowMs < savedMs ? undefined : nowMs - savedMs
}

function pollOf({ holders, witnesses }: Pick<SharerCount, 'holders' | 'witnesses'>): Poll {
  return {
    holdersAsked: holders.asked,
    witnesses: witnesses.map(({ inUseUntilMs: _, ...word }) => word)
  }
}
