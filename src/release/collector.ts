/**
 * Collects versions of one's own appliances that nobody uses any more.
 *
 * Whether one may go is judged from what was seen of it (collection-polls.ts) and from what is here; to go means that its
 * image is put into the trash (trash.ts) and that the next record of the appliance is without it. By itself this peer
 * only says what could go, unless its owner has set it to collect.
 */
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { parseApplianceRef, splitApplianceId } from '../image/names.ts'
import type { Latest, Release } from '../image/release.ts'
import type { Measured } from '../store/sweeper.ts'
import type { CollectionSettings } from './collection-policy.ts'
import type { CollectionPolls } from './collection-polls.ts'
import { earliestMs, judge, type KeepReason, type VersionFacts } from './collection-verdict.ts'
import type { Trash } from './trash.ts'

export interface CollectorComponents {
  polls: CollectionPolls
  trash: Trash
  sweeper: {
    measure(going: readonly string[], gone: readonly string[]): Promise<Measured>
    sweepUnused(): Promise<{ freedBytes: number }>
  }
  publisher: {
    own(): readonly Latest[]
    removeReleases(
      appliance: string,
      versions: readonly string[],
      leaving: (releases: Release[]) => Promise<void>
    ): Promise<Release[]>
  }
  /** Whose appliances can be signed here. */
  publisherId: () => string
  /** Local machines. */
  machines: { descriptions(): readonly { name: string; appliance: string; version: string }[] }
  replication: { list(): readonly { appliance: string; version: string }[] }
  /** Whether an image must stay when these releases of it go. */
  isNeeded: (image: string, going: ReadonlySet<string>) => boolean
  log: Log
}

export interface CollectRequest {
  dryRun?: boolean
  /** A version, or `NAME@VERSION`, that goes although it may be in use. */
  force?: string | undefined
}

export interface CollectedRelease {
  appliance: string
  version: string
  image: string
  /** Of blocks that only it needs; freed when its time in the trash is over. */
  freedBytes: number
  forced: boolean
}

export interface KeptRelease {
  appliance: string
  version: string
  /** In words. */
  why: string
  reasons: { code: string; words: string; leftSeconds: number | null }[]
  /** For how long it was seen unused in one go. */
  unusedSeconds: number
  /** After how much more it can go, if nobody uses it meanwhile; null: that cannot be said. */
  earliestSeconds: number | null
}

export interface CollectAnswer {
  removed: CollectedRelease[]
  kept: KeptRelease[]
  /** Of what was removed, and of blocks that no image here needs. */
  freedBytes: number
  /** Of those, what went at once: blocks of no image. */
  unusedBytes: number
  /** Images of releases that were removed, until their blocks go. */
  trash: { appliance: string; version: string; image: string; leftSeconds: number }[]
}

/** What collection thinks of one version. */
export interface Prospect {
  action: 'keep' | 'remove'
  /** In words; empty for one that goes. */
  why: string[]
  unusedSeconds: number
  earliestSeconds: number | null
}

interface Judged {
  appliance: string
  release: Release
  forced: boolean
  /** None: it goes. */
  reasons: KeepReason[]
  unusedForMs: number
}

export class Collector {
  readonly #components: CollectorComponents
  readonly #settings: CollectionSettings & { automatic: boolean }
  /** Versions of which was said already that they could go. */
  readonly #told = new Set<string>()
  #turn: Promise<unknown> = Promise.resolve()

  constructor(components: CollectorComponents, settings: CollectionSettings & { automatic: boolean }) {
    this.#components = components
    this.#settings = settings
  }

  start(): void {
    this.#components.polls.start(() => this.#afterRound())
  }

  async stop(): Promise<void> {
    await this.#components.polls.stop()
    await this.#turn.catch(() => undefined)
  }

  /**
   * Asks who uses the own versions, removes those that may go, and frees blocks of no image.
   *
   * @throws VERSION_UNKNOWN, VERSION_AMBIGUOUS, RELEASE_NEEDED (a forced one must stay); what signing and the store throw
   */
  collect(request: CollectRequest = {}): Promise<CollectAnswer> {
    return this.#inTurn(async () => {
      // Before anybody is asked: a wrong name is told at once.
      if (request.force !== undefined) this.#forced(request.force)
      await this.#components.polls.pollAll()
      return this.#collect(request)
    })
  }

  /** What collection would do with the versions of an own appliance now. */
  prospects(appliance: string): Map<string, Prospect> {
    const judged = this.#judgeAll(undefined).filter(each => each.appliance === appliance)
    return new Map(
      judged.map(({ release, reasons, unusedForMs }) => [
        release.version,
        {
          action: reasons.length === 0 ? 'remove' : 'keep',
          why: reasons.map(({ words }) => words),
          unusedSeconds: seconds(unusedForMs),
          earliestSeconds: secondsOrNull(earliestMs({ reasons }))
        }
      ])
    )
  }

  async #collect({ dryRun = false, force }: CollectRequest): Promise<CollectAnswer> {
    const { trash, sweeper, isNeeded } = this.#components
    const forced = force === undefined ? undefined : this.#forced(force)
    const judged = this.#judgeAll(forced)
    const going = judged.filter(({ reasons }) => reasons.length === 0)
    const kept = judged.filter(({ reasons }) => reasons.length > 0)
    const names = new Set(going.map(({ appliance, release }) => `${appliance}@${release.version}`))
    const free = (images: string[]) => [...new Set(images)].filter(image => !isNeeded(image, names))
    const { byImage, unusedBytes } = await sweeper.measure(
      free(going.map(({ release }) => release.image)),
      free(trash.list().map(({ image }) => image))
    )
    const removed: CollectedRelease[] = []
    for (const each of dryRun ? going : await this.#remove(going)) {
      const { appliance, release, forced } = each
      const freedBytes = byImage.get(release.image) ?? 0
      byImage.delete(release.image) // several versions may have one image
      removed.push({ appliance, version: release.version, image: release.image, freedBytes, forced })
    }
    const unused = dryRun ? unusedBytes : (await sweeper.sweepUnused()).freedBytes
    return {
      removed,
      kept: kept.map(keptRelease),
      freedBytes: removed.reduce((sum, { freedBytes }) => sum + freedBytes, unused),
      unusedBytes: unused,
      trash: trash.list().map(({ leftMs, ...what }) => ({ ...what, leftSeconds: seconds(leftMs) }))
    }
  }

  /** Returns those that went. */
  async #remove(going: readonly Judged[]): Promise<Judged[]> {
    const { publisher, trash, log } = this.#components
    const gone: Judged[] = []
    for (const appliance of new Set(going.map(each => each.appliance))) {
      const here = going.filter(each => each.appliance === appliance)
      const versions = here.map(({ release }) => release.version)
      const leaving = async (releases: Release[]) => {
        for (const { version } of releases) this.#mustBeFree(appliance, version)
        const images = releases.map(({ image, version }) => ({ image, appliance, version }))
        await trash.add(images, { announced: true })
      }
      const removed = await publisher.removeReleases(appliance, versions, leaving)
      const wentVersions = new Set(removed.map(({ version }) => version))
      gone.push(...here.filter(({ release }) => wentVersions.has(release.version)))
      for (const version of wentVersions) log.info('a version was removed', { appliance, version })
    }
    return gone
  }

  /** A machine of it may have been made since it was judged. */
  #mustBeFree(appliance: string, version: string): void {
    const machines = this.#machinesOf(appliance, version)
    if (machines.length === 0) return
    throw new RowanError('RELEASE_NEEDED', `${appliance}@${version} stays: the machine ${machines[0]} here is of it`)
  }

  /** Never rejects. */
  async #afterRound(): Promise<void> {
    const { log } = this.#components
    try {
      if (this.#settings.automatic) {
        const mayGo = this.#judgeAll(undefined).some(({ reasons }) => reasons.length === 0)
        if (mayGo) await this.#inTurn(() => this.#collect({}))
        return
      }
      for (const { appliance, release, reasons } of this.#judgeAll(undefined)) {
        const name = `${appliance}@${release.version}`
        if (reasons.length > 0) this.#told.delete(name)
        else if (!this.#told.has(name)) {
          this.#told.add(name)
          log.info('nobody uses a version any more; `rowan gc` removes it', { release: name })
        }
      }
    } catch (error) {
      log.warn('unused versions could not be collected', { error: asRowanError(error) })
    }
  }

  #judgeAll(forced: { appliance: string; version: string } | undefined): Judged[] {
    const { polls, publisher, publisherId } = this.#components
    const judged: Judged[] = []
    for (const latest of publisher.own()) {
      // Of a root key that was replaced: nothing of it can be signed here.
      if (splitApplianceId(latest.appliance).publisher !== publisherId()) continue
      const own: Judged[] = []
      for (const release of latest.releases) {
        const { appliance } = latest
        const { version } = release
        const force = forced?.appliance === appliance && forced.version === version
        const state = polls.state(`${appliance}@${version}`)
        const verdict = judge(this.#facts(latest, version), state, this.#settings, { force })
        const reasons = verdict.action === 'keep' ? verdict.reasons : []
        own.push({ appliance, release, forced: force, reasons, unusedForMs: state.unusedForMs })
      }
      keepOne(own)
      judged.push(...own)
    }
    return judged
  }

  #facts({ appliance, releases, channels }: Latest, version: string): VersionFacts {
    return {
      channels: channels.filter(channel => channel.version === version).map(({ name }) => name),
      rollouts: channels.filter(({ previous }) => previous === version).map(({ name }) => name),
      isOnly: releases.length === 1,
      machines: this.#machinesOf(appliance, version),
      isReplicated: this.#components.replication
        .list()
        .some(each => each.appliance === appliance && each.version === version)
    }
  }

  #machinesOf(appliance: string, version: string): string[] {
    const machines = this.#components.machines.descriptions()
    return machines.filter(each => each.appliance === appliance && each.version === version).map(({ name }) => name)
  }

  /** The one version that is meant. @throws VERSION_UNKNOWN, VERSION_AMBIGUOUS, RELEASE_NEEDED, APPLIANCE_REF_INVALID */
  #forced(text: string): { appliance: string; version: string } {
    const { publisher, publisherId } = this.#components
    const ref = text.includes('@') ? parseApplianceRef(text) : undefined
    const version = ref?.version ?? text
    const found = publisher.own().filter(({ appliance, releases }) => {
      const own = splitApplianceId(appliance)
      const isMeant = own.publisher === (ref?.publisher ?? publisherId()) && own.name === (ref?.name ?? own.name)
      return isMeant && own.publisher === publisherId() && releases.some(release => release.version === version)
    })
    if (found.length > 1) {
      const names = found.map(({ appliance }) => `${splitApplianceId(appliance).name}@${version}`)
      throw new RowanError('VERSION_AMBIGUOUS', `${version} may be ${names.join(' or ')}`)
    }
    const [latest] = found
    if (latest === undefined) throw new RowanError('VERSION_UNKNOWN', `no appliance of yours has a version ${text}`)
    const state = this.#components.polls.state(`${latest.appliance}@${version}`)
    const verdict = judge(this.#facts(latest, version), state, this.#settings, { force: true })
    if (verdict.action === 'keep') {
      const words = verdict.reasons.map(reason => reason.words).join('; ')
      throw new RowanError('RELEASE_NEEDED', `${latest.appliance}@${version} stays: ${words}`)
    }
    return { appliance: latest.appliance, version }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }
}

/** An appliance without channels must not lose all its releases at once: the newest stays. */
function keepOne(judged: Judged[]): void {
  if (judged.length === 0 || judged.some(({ reasons }) => reasons.length > 0)) return
  const newest = judged.reduce((a, b) => (b.release.publishedMs > a.release.publishedMs ? b : a))
  newest.reasons = [{ code: 'only-release', words: 'it would be the last release of the appliance', mayForce: false }]
}

function keptRelease({ appliance, release, reasons, unusedForMs }: Judged): KeptRelease {
  return {
    appliance,
    version: release.version,
    why: reasons.map(({ words }) => words).join('; '),
    reasons: reasons.map(({ code, words, leftMs }) => ({ code, words, leftSeconds: secondsOrNull(leftMs) })),
    unusedSeconds: seconds(unusedForMs),
    earliestSeconds: secondsOrNull(earliestMs({ reasons }))
  }
}

function seconds(ms: number): number {
  return Math.round(ms / 1000)
}

function secondsOrNull(ms: number | undefined): number | null {
  return ms === undefined ? null : seconds(ms)
}
