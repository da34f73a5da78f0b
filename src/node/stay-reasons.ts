/**
 * Why images stay in the pool of this peer, from what each room knows.
 *
 * Pinned are images of local machines, running or not, replicated ones, all releases of one's own that are still listed,
 * and for a while those that were removed. Current are the releases that the channels of known appliances point at, with those that a rollout leaves
 * some peers on.
 */
import type { Latest } from '../image/release.ts'
import { REASON, type Reason } from '../store/eviction.ts'

export interface StayRooms {
  machines: { images(): ReadonlySet<string> }
  replication: { list(): readonly { image: string }[] }
  publisher: { own(): readonly Latest[] }
  /** Images of removed releases. */
  trash: { list(): readonly { image: string }[] }
}

export interface KnownAppliances {
  all(): readonly { latest: Latest }[]
}

export function pinnedImages({ machines, trash, ...rooms }: StayRooms): Set<string> {
  return new Set([...machines.images(), ...trash.list().map(({ image }) => image), ...donatedImages(rooms)])
}

/** What is here to be given to others: replicated images, and releases of one's own. */
export function donatedImages({ replication, publisher }: Pick<StayRooms, 'replication' | 'publisher'>): Set<string> {
  const donated = new Set<string>()
  for (const { image } of replication.list()) donated.add(image)
  for (const { releases } of publisher.own()) for (const { image } of releases) donated.add(image)
  return donated
}

/** Images of all releases that are listed, without the pinned ones. */
export function listedImages(rooms: StayRooms, memory: KnownAppliances): Set<string> {
  const pinned = pinnedImages(rooms)
  const listed = new Set<string>()
  for (const { latest } of memory.all()) {
    for (const { image } of latest.releases) if (!pinned.has(image)) listed.add(image)
  }
  return listed
}

/**
 * Whether an image must stay when its releases in `going` (`PUBLISHER/NAME@VERSION`) are removed, and the trash is empty.
 */
export function isNeeded(
  image: string,
  { machines, replication, publisher }: Omit<StayRooms, 'trash'>,
  memory: KnownAppliances,
  going: ReadonlySet<string> = new Set()
): boolean {
  if (machines.images().has(image) || replication.list().some(each => each.image === image)) return true
  const known = [...publisher.own(), ...memory.all().map(({ latest }) => latest)]
  return known.some(({ appliance, releases }) =>
    releases.some(release => release.image === image && !going.has(`${appliance}@${release.version}`))
  )
}

/** The releases, `PUBLISHER/NAME@VERSION`, that list an image. */
export function releasesOf(image: string, memory: KnownAppliances): string[] {
  return memory
    .all()
    .flatMap(({ latest: { appliance, releases } }) =>
      releases.filter(release => release.image === image).map(({ version }) => `${appliance}@${version}`)
    )
}

/** For each image that has one, the best reason to stay. */
export function stayReasons(
  rooms: StayRooms,
  memory: KnownAppliances,
  isLast: (image: string) => boolean
): Map<string, Reason> {
  const reasons = new Map<string, Reason>()
  const raise = (image: string, reason: Reason) => {
    if (reason > (reasons.get(image) ?? REASON.none)) reasons.set(image, reason)
  }
  for (const { latest } of memory.all()) {
    const current = currentVersions(latest)
    for (const { image, version } of latest.releases) {
      if (current.has(version)) raise(image, REASON.current)
      if (isLast(image)) raise(image, REASON.lastReplica)
    }
  }
  for (const image of pinnedImages(rooms)) raise(image, REASON.pinned)
  return reasons
}

function currentVersions({ channels }: Latest): Set<string> {
  const current = new Set<string>()
  for (const { version, previous, rolloutPercent } of channels) {
    current.add(version)
    if (previous !== undefined && rolloutPercent < 100) current.add(previous)
  }
  return current
}
