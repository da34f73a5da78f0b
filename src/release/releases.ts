/**
 * The listing of an appliance's versions, for `rowan releases`.
 */
import type { SharerCount } from '../directory/directory.ts'
import type { ReplicaRecord } from '../directory/replica-record.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { VerifiedLatest } from '../image/release.ts'

/** Searches of the directory at a time. */
const SEARCHES_AT_ONCE = 8

export interface ListedRelease {
  /** `PUBLISHER/NAME`. */
  appliance: string
  version: string
  image: string
  size: number
  blocks: number
  zeroBlocks: number
  parent?: string
  /** The channels that point at it. */
  channels: string[]
  /** Of those, the ones still being rolled out, with their percentage. */
  rollout: Record<string, number>
  /** ISO time. */
  published: string
  labels: Record<string, string>
  /** ISO time: when the record that lists it ends, or has ended. */
  expires: string
  /** Whether it has ended: what it says may be out of date, and nothing new is attached by it. */
  expired: boolean
  /** Peers that use it, or have a machine of it. */
  sharers: ListedSharers
  /** Peers that are announced to serve the image, wholly or partly; `complete` of them wholly. */
  replicas: number
  complete: number
}

export interface ListedSharers {
  /** Null when too few of those that should know answered. An estimate has three figures. */
  count: number | null
  exact: boolean
  /** Of an estimate, the relative standard error. */
  error?: number
}

interface Components {
  /** Other peers. */
  findReplicas(image: string, options: { signal?: AbortSignal }): Promise<ReplicaRecord[]>
  /** How this peer itself is announced as a replica. */
  ownReplica(image: string): { complete: boolean } | undefined
  /** Those who use a release, `PUBLISHER/NAME@VERSION`; `replicas` of its image may know too. */
  countSharers(
    release: string,
    options: { replicas: ReplicaRecord[]; signal?: AbortSignal }
  ): Promise<Pick<SharerCount, 'count' | 'exact' | 'error'>>
  clock: Pick<Clock, 'now'>
  log: Log
}

/**
 * Lists the releases of a record, newest first, with how many replicas and sharers the directory knows of each.
 *
 * @throws RowanError ABORTED; a search that fails counts as no replicas or an unknown number of sharers, and is logged
 */
export async function listReleases(
  latest: VerifiedLatest,
  { findReplicas, ownReplica, countSharers, clock, log }: Components,
  options: { signal?: AbortSignal } = {}
): Promise<ListedRelease[]> {
  const { appliance, channels, expiresMs } = latest
  const releases = latest.releases.toSorted((a, b) => b.publishedMs - a.publishedMs)
  const images = [...new Set(releases.map(({ image }) => image))]
  const replicas = new Map<string, ReplicaRecord[]>()
  const search = async () => {
    for (let image = images.shift(); image !== undefined; image = images.shift()) {
      options.signal?.throwIfAborted()
      try {
        replicas.set(image, await findReplicas(image, options))
      } catch (error) {
        log.warn('cannot look for replicas', { appliance, image, error: asRowanError(error) })
      }
    }
  }
  const sharers = new Map<string, ListedSharers>()
  const uncounted = [...releases]
  const count = async () => {
    for (let release = uncounted.shift(); release !== undefined; release = uncounted.shift()) {
      options.signal?.throwIfAborted()
      const { version, image } = release
      try {
        const known = { replicas: replicas.get(image) ?? [], ...options }
        sharers.set(version, listed(await countSharers(`${appliance}@${version}`, known)))
      } catch (error) {
        log.warn('cannot count sharers', { appliance, version, error: asRowanError(error) })
      }
    }
  }
  try {
    await Promise.all(Array.from({ length: SEARCHES_AT_ONCE }, search))
    await Promise.all(Array.from({ length: SEARCHES_AT_ONCE }, count))
  } catch (error) {
    throw asRowanError(error)
  }
  const record = { expires: new Date(expiresMs).toISOString(), expired: expiresMs <= clock.now() }
  return releases.map(({ version, image, sizeBytes, blocks, zeroBlocks, parent, publishedMs, labels }) => {
    const here = channels.filter(channel => channel.version === version)
    const partial = here.filter(({ rolloutPercent }) => rolloutPercent < 100)
    const own = ownReplica(image)
    const found = [...(replicas.get(image) ?? []), ...(own === undefined ? [] : [own])]
    return {
      appliance,
      version,
      image,
      size: sizeBytes,
      blocks,
      zeroBlocks,
      ...(parent === undefined ? {} : { parent }),
      channels: here.map(({ name }) => name),
      rollout: Object.fromEntries(partial.map(({ name, rolloutPercent }) => [name, rolloutPercent])),
      published: new Date(publishedMs).toISOString(),
      labels,
      ...record,
      sharers: sharers.get(version) ?? { count: null, exact: false },
      replicas: found.length,
      complete: found.filter(({ complete }) => complete).length
    }
  })
}

/** An estimate with more than three figures would promise more than it holds. */
function listed({ count, exact, error }: Pick<SharerCount, 'count' | 'exact' | 'error'>): ListedSharers {
  if (count === null || exact) return { count, exact }
  const rounded = Number(count.toPrecision(3))
  return { count: rounded, exact, ...(error === undefined ? {} : { error: Number(error.toFixed(2)) }) }
}
