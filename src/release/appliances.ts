/**
 * From what a person writes (`grid`, `grid@v2`, `12D3…/grid:testing`) to a release, and where it can be had.
 *
 * A name alone is an appliance of one's own, or an alias. Own appliances are known here and need no network. For others
 * the directory is asked each time something new is attached, because a record that is remembered may be days old; when
 * nobody answers, the remembered one serves until it expires.
 *
 * Owns: the aliases. Does not own: what was seen of each appliance (directory/appliance-memory.ts).
 */
import type { PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { deadline } from '../deadline.ts'
import type { ReplicaRecord } from '../directory/replica-record.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError, type ErrorCode, RowanError } from '../errors.ts'
import { type ApplianceRef, applianceId, checkName, parseApplianceRef, splitApplianceId } from '../image/names.ts'
import type { Release, VerifiedLatest } from '../image/release.ts'
import { compareRecords } from '../image/release-order.ts'
import { chooseRelease, DEFAULT_CHANNEL } from '../image/rollout.ts'
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'

export const MAX_ALIASES = 1024
/** How long the directory may look for an appliance. */
const FIND_LIMIT_MS = 20_000
/** Peers named in the message of a search that found nothing. */
const PEERS_NAMED = 4

/** What a search of the directory comes back with. */
export interface FoundLatest {
  latest?: VerifiedLatest | undefined
  replicas: ReplicaRecord[]
  /** Peer ids. */
  asked: string[]
  answered: number
  elapsedMs: number
  refused: { peer: string; code: string }[]
}

export interface ResolvedAppliance {
  /** `PUBLISHER/NAME`. */
  appliance: string
  release: Release
  latest: VerifiedLatest
  /** Images of other versions, the likest to the release's first: its parent's, then the newest. */
  similar: string[]
  /** Replicas of the release's image that came with the answer; none for an own appliance. */
  replicas: ReplicaRecord[]
}

interface Components {
  catalog: Catalog
  memory: {
    get(appliance: string): { latest: VerifiedLatest } | undefined
    state(appliance: string): { conflict: boolean; revoked: boolean; sequence: number } | undefined
  }
  directory: { findLatest(appliance: string, options: { signal: AbortSignal }): Promise<FoundLatest> }
  /** Whose appliances a name alone means; another root key may be imported while we run. */
  publisherId: () => string
  /** This peer, for the draw of a rollout. */
  peerId: string
  clock: Clock
  log: Log
}

export class Appliances {
  readonly #components: Components
  readonly #table: Table<string>
  readonly #aliases = new Map<string, string>()

  private constructor(components: Components) {
    this.#components = components
    this.#table = components.catalog.table('aliases', jsonCodec<string>())
  }

  /** @throws RowanError CATALOG_CORRUPT, STORE_IO */
  static async open(components: Components): Promise<Appliances> {
    const appliances = new Appliances(components)
    for await (const [alias, appliance] of appliances.#table.entries()) appliances.#aliases.set(alias, appliance)
    return appliances
  }

  /** Alias to `PUBLISHER/NAME`. */
  aliases(): ReadonlyMap<string, string> {
    return this.#aliases
  }

  /**
   * Gives an appliance a local name, durably.
   *
   * @param appliance - `PUBLISHER/NAME`; nobody is asked whether it exists
   * @throws RowanError APPLIANCE_REF_INVALID, NAME_INVALID, ALIAS_TAKEN, LIMIT_EXCEEDED
   */
  async follow(appliance: string, alias: string): Promise<{ alias: string; appliance: string }> {
    checkPublisher(splitApplianceId(appliance).publisher, appliance)
    checkName(alias, 'alias')
    const { memory, publisherId } = this.#components
    const own = applianceId(publisherId(), alias)
    const taken = own !== appliance && memory.get(own) !== undefined ? own : this.#aliases.get(alias)
    if (taken === appliance) return { alias, appliance }
    if (taken !== undefined) throw new RowanError('ALIAS_TAKEN', `${alias} is the name of ${taken} here`)
    if (this.#aliases.size >= MAX_ALIASES) throw new RowanError('LIMIT_EXCEEDED', `${MAX_ALIASES} aliases is the limit`)
    // Before it is written: whoever wants the name meanwhile is too late.
    this.#aliases.set(alias, appliance)
    try {
      await this.#table.put(alias, appliance, { sync: true })
    } catch (error) {
      this.#aliases.delete(alias)
      throw error
    }
    return { alias, appliance }
  }

  /** The `PUBLISHER/NAME` that is meant: as it is written, one of one's own, an alias, or else one's own again. */
  resolveName(ref: ApplianceRef): string {
    if (ref.publisher !== undefined) return applianceId(ref.publisher, ref.name)
    const own = applianceId(this.#components.publisherId(), ref.name)
    return this.#isKnown(own) ? own : (this.#aliases.get(ref.name) ?? own)
  }

  /**
   * The release that `text` means now.
   *
   * @throws RowanError APPLIANCE_REF_INVALID; APPLIANCE_UNKNOWN, which says how long it looked and whom it asked;
   *   VERSION_UNKNOWN; LATEST_EXPIRED (unless `allowExpired`), LATEST_ROLLBACK, LATEST_CONFLICT, SIGNATURE_INVALID when
   *   what was found must not be used; ABORTED
   */
  async resolve(
    text: string,
    options: { allowExpired?: boolean; signal?: AbortSignal } = {}
  ): Promise<ResolvedAppliance> {
    const ref = parseApplianceRef(text)
    const appliance = this.resolveName(ref)
    const own = this.#choose(this.#ownLatest(appliance), ref)
    if (own !== undefined) return { appliance, ...own, similar: similarImages(own.latest, own.release), replicas: [] }

    const found = await this.find(appliance, options)
    const release = chooseRelease(found.latest, ref, this.#components.peerId)
    const replicas = found.replicas.filter(({ image }) => image === release.image)
    return { appliance, release, latest: found.latest, similar: similarImages(found.latest, release), replicas }
  }

  /**
   * The newest record of an appliance, from the directory or the memory.
   *
   * @throws RowanError as resolve, without VERSION_UNKNOWN
   */
  async find(
    appliance: string,
    options: { allowExpired?: boolean; signal?: AbortSignal } = {}
  ): Promise<{ latest: VerifiedLatest; replicas: ReplicaRecord[] }> {
    const { memory, clock, log } = this.#components
    const answer = await this.#ask(appliance, options.signal)
    const remembered = memory.get(appliance)?.latest
    const offered = 'error' in answer ? undefined : answer.latest
    const isNewest = offered !== undefined && (remembered === undefined || compareRecords(offered, remembered) >= 0)
    const latest = isNewest ? offered : remembered
    if (latest === undefined) throw this.#notFound(appliance, answer)
    if (latest.expiresMs <= clock.now() && options.allowExpired !== true) {
      const refusal = 'error' in answer ? undefined : refusalOf(appliance, answer)
      const when = new Date(latest.expiresMs).toISOString()
      throw refusal ?? new RowanError('LATEST_EXPIRED', `the newest record of ${appliance} expired on ${when}`)
    }
    if (offered === undefined) log.info('nobody has a newer record', { appliance, sequence: latest.sequence })
    return { latest, replicas: 'error' in answer ? [] : answer.replicas }
  }

  #isKnown(appliance: string): boolean {
    return this.#components.memory.get(appliance) !== undefined
  }

  /** An own appliance's record, from memory alone; its expiry is for others. */
  #ownLatest(appliance: string): VerifiedLatest | undefined {
    const { memory, publisherId } = this.#components
    return splitApplianceId(appliance).publisher === publisherId() ? memory.get(appliance)?.latest : undefined
  }

  /** Undefined when this record does not have what is asked for: another host of the publisher may have released it. */
  #choose(latest: VerifiedLatest | undefined, ref: ApplianceRef) {
    if (latest === undefined) return undefined
    const isThere =
      ref.version === undefined
        ? latest.channels.some(({ name }) => name === (ref.channel ?? DEFAULT_CHANNEL))
        : latest.releases.some(({ version }) => version === ref.version)
    return isThere ? { latest, release: chooseRelease(latest, ref, this.#components.peerId) } : undefined
  }

  async #ask(appliance: string, signal: AbortSignal | undefined): Promise<FoundLatest | { error: RowanError }> {
    const { directory, clock } = this.#components
    const limit = deadline(clock, FIND_LIMIT_MS, signal)
    try {
      return await directory.findLatest(appliance, { signal: limit.signal })
    } catch (error) {
      if (signal?.aborted === true) throw new RowanError('ABORTED', `the search for ${appliance} was stopped`)
      return { error: asRowanError(error, 'APPLIANCE_UNKNOWN', `looking for ${appliance}`) }
    } finally {
      limit.clear()
    }
  }

  #notFound(appliance: string, answer: FoundLatest | { error: RowanError }): RowanError {
    const state = this.#components.memory.state(appliance)
    if (state?.conflict === true) {
      const says = `two different records of ${appliance} carry the number ${state.sequence}, and both are refused`
      return new RowanError('LATEST_CONFLICT', says)
    }
    if (state?.revoked === true) {
      return new RowanError('SIGNATURE_INVALID', `the release key that signed ${appliance} was revoked since`)
    }
    if ('error' in answer) return answer.error
    const refusal = refusalOf(appliance, answer)
    if (refusal !== undefined) return refusal
    const { publisher, name } = splitApplianceId(appliance)
    const seconds = (answer.elapsedMs / 1000).toFixed(1)
    const whom =
      answer.asked.length === 0
        ? `looked for ${seconds} s and reached no other peer`
        : `asked ${peers(answer.asked)} for ${seconds} s, ${answer.answered} answered`
    const hint =
      publisher === this.#components.publisherId()
        ? `; ${name} alone means an appliance of your own or an alias, and there is none of this name`
        : ''
    return new RowanError('APPLIANCE_UNKNOWN', `nobody knows ${appliance}: ${whom}${hint}`)
  }
}

function similarImages({ releases }: VerifiedLatest, release: Release): string[] {
  const others = releases.filter(({ image }) => image !== release.image)
  const distance = ({ version, publishedMs }: Release) =>
    version === release.parent ? -1 : Math.abs(release.publishedMs - publishedMs)
  return [...new Set(others.sort((a, b) => distance(a) - distance(b)).map(({ image }) => image))]
}

/** Why nothing that was offered could be used, when that is why there is nothing. */
function refusalOf(appliance: string, { refused }: FoundLatest): RowanError | undefined {
  const codes = ['LATEST_CONFLICT', 'LATEST_ROLLBACK', 'SIGNATURE_INVALID'] as const satisfies ErrorCode[]
  const code = codes.find(candidate => refused.some(refusal => refusal.code === candidate))
  if (code === undefined) return undefined
  const from = refused.filter(refusal => refusal.code === code).map(({ peer }) => peer)
  return new RowanError(code, `what ${peers(from)} offered of ${appliance} was refused`)
}

function peers(ids: string[]): string {
  const named = ids.slice(0, PEERS_NAMED).join(', ')
  const more = ids.length > PEERS_NAMED ? ` and ${ids.length - PEERS_NAMED} more` : ''
  return `${ids.length === 1 ? '1 peer' : `${ids.length} peers`} (${named}${more})`
}

function checkPublisher(publisher: string, appliance: string): void {
  let id: PeerId | undefined
  let cause: unknown
  try {
    id = peerIdFromString(publisher)
  } catch (error) {
    cause = error
  }
  if (id?.type === 'Ed25519' && id.toString() === publisher) return
  const says = `${appliance}: ${publisher} is no publisher's id (the peer id of an Ed25519 key)`
  throw new RowanError('APPLIANCE_REF_INVALID', says, { cause })
}
