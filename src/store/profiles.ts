/**
 * The boot profiles of images: recorded here, released by the publisher, heard from peers.
 *
 * What to follow is decided here. The released profile, whose hash the signed release names, comes before all others; else the recordings of
 * this peer and of those that it heard are merged (image/profile-merge.ts), each one voice; else that of an image that is like it (the
 * version before), block number by block number.
 *
 * Owns: the table `profiles` (image -> what was recorded and released). What peers said is in memory alone: they say it again.
 */
import { type BootProfile, decodeProfile, encodeProfile } from '../image/boot-profile.ts'
import { sha256, toHex } from '../image/hash.ts'
import { mergeProfiles } from '../image/profile-merge.ts'
import { type Catalog, jsonCodec, type Operation, type Table } from './catalog.ts'

/** Images with a profile of their own here; beyond, another one's is forgotten. */
const MAX_PROFILED_IMAGES = 4096
/** Images whose profiles were heard from peers, and how many peers' of each; the oldest go first. */
export const MAX_HEARD_IMAGES = 64
export const MAX_HEARD_PEERS = 7
/** Images like another that are looked at when it has no profile. */
const MAX_SIMILAR_IMAGES = 4

interface KeptProfiles {
  /** Hex SHA-256 of the released profile's bytes. */
  expected?: string
  /** Base64, as are all bytes here. */
  released?: string
  own?: string
  /** Whether the own one is of a machine that had not written anything: later boots read some of it from their layer. */
  isFresh?: boolean
  /** Images whose profile may stand in, the likest first. */
  similar?: string[]
}

export interface ChosenProfile {
  profile: BootProfile
  from: 'release' | 'peers' | 'own' | 'similar'
  /** How many recordings it was made of. */
  voices: number
}

export class Profiles {
  readonly #table: Table<KeptProfiles>
  /** Image -> peer -> encoded profile. */
  readonly #heard = new Map<string, Map<string, Uint8Array>>()
  readonly #listeners = new Set<(image: string) => void>()
  #count: number

  private constructor(table: Table<KeptProfiles>, count: number) {
    this.#table = table
    this.#count = count
  }

  /** @throws CATALOG_CORRUPT, STORE_IO */
  static async open(catalog: Catalog): Promise<Profiles> {
    const table = catalog.table('profiles', jsonCodec<KeptProfiles>())
    let count = 0
    for await (const _ of table.entries()) count++
    return new Profiles(table, count)
  }

  /** Called, synchronously, when another profile may have become the one to follow. Returns how to end that. */
  onChange(listener: (image: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * What a release says: the hash of the profile that belongs to it, and which images are like its own.
   *
   * @throws DISK_FULL, STORE_IO
   */
  async expect(image: string, release: { hash?: string | undefined; similar?: readonly string[] }): Promise<void> {
    const kept = this.#kept(image)
    const next = { ...kept }
    if (release.hash !== undefined && release.hash !== kept.expected) {
      next.expected = release.hash
      // Of the peers that spoke before the release was known, one may have sent it.
      const early = [
        ...(this.#heard.get(image)?.values() ?? []),
        ...(kept.own === undefined ? [] : [unpacked(kept.own)])
      ]
      const found = early.find(bytes => hashOf(bytes) === release.hash)
      if (found === undefined) delete next.released
      else next.released = packed(found)
    }
    const similar = (release.similar ?? []).filter(id => id !== image).slice(0, MAX_SIMILAR_IMAGES)
    if (similar.length > 0) next.similar = similar
    if (JSON.stringify(next) !== JSON.stringify(kept)) await this.#put(image, next)
  }

  /**
   * Keeps a recording of this peer's. One of a fresh machine is not replaced by one of a machine with a past.
   *
   * @throws DISK_FULL, STORE_IO
   */
  async recorded(image: string, profile: BootProfile, options: { isFresh: boolean }): Promise<void> {
    const kept = this.#kept(image)
    if (kept.own !== undefined && kept.isFresh === true && !options.isFresh) return
    await this.#put(image, { ...kept, own: packed(encodeProfile(profile)), isFresh: options.isFresh })
  }

  /**
   * A peer's profile. Only the last one of each peer counts, and it is no more than a voice, unless it is the released one.
   *
   * @param blocks - of the image
   * @throws PROFILE_INVALID; DISK_FULL, STORE_IO when the released one cannot be kept
   */
  async heard(image: string, peer: string, bytes: Uint8Array, blocks: number): Promise<void> {
    decodeProfile(bytes, blocks)
    const own = Uint8Array.from(bytes)
    const kept = this.#kept(image)
    if (kept.expected !== undefined && hashOf(own) === kept.expected) {
      if (kept.released === undefined) await this.#put(image, { ...kept, released: packed(own) })
      return
    }
    const voices = this.#heard.get(image) ?? new Map<string, Uint8Array>()
    this.#heard.delete(image)
    this.#heard.set(image, voices)
    if (!voices.has(peer) && voices.size >= MAX_HEARD_PEERS) return
    voices.set(peer, own)
    if (this.#heard.size > MAX_HEARD_IMAGES) this.#heard.delete(this.#heard.keys().next().value!)
    this.#changed(image)
  }

  /** What forgets an image's profiles, in one write with the image; those that were heard are forgotten now. */
  forgetOps(image: string): Operation[] {
    this.#heard.delete(image)
    if (this.#table.getSync(image) === undefined) return []
    this.#count--
    return [this.#table.deleteOp(image)]
  }

  /** What a peer that was caught lying has said counts no more. */
  disown(peer: string): void {
    for (const [image, voices] of this.#heard) if (voices.delete(peer)) this.#changed(image)
  }

  /** Whether a boot of this image was recorded here. */
  hasRecording(image: string): boolean {
    return this.#kept(image).own !== undefined
  }

  /**
   * The profile to follow; undefined where there is none.
   *
   * @param blocks - of the image
   */
  choose(image: string, blocks: number): ChosenProfile | undefined {
    const kept = this.#kept(image)
    const direct = this.#direct(image, kept, blocks)
    if (direct !== undefined) return direct
    for (const similar of kept.similar ?? []) {
      // Its image may be larger than this one.
      const other = this.#direct(similar, this.#kept(similar), Number.POSITIVE_INFINITY)
      if (other === undefined) continue
      return { ...other, profile: other.profile.filter(({ block }) => block < blocks), from: 'similar' }
    }
    return undefined
  }

  /**
   * What a peer that opens the image is given: the released profile, which proves itself, or else this peer's own recording.
   *
   * @param options - `own`: whether that may be given away
   */
  toShare(image: string, options: { own: boolean }): Uint8Array | undefined {
    const { released, own } = this.#kept(image)
    if (released !== undefined) return unpacked(released)
    return own !== undefined && options.own ? unpacked(own) : undefined
  }

  #direct(image: string, kept: KeptProfiles, blocks: number): ChosenProfile | undefined {
    if (kept.released !== undefined) {
      return { profile: decodeProfile(unpacked(kept.released), blocks), from: 'release', voices: 1 }
    }
    const heard = [...(this.#heard.get(image)?.values() ?? [])]
    const all = kept.own === undefined ? heard : [...heard, unpacked(kept.own)]
    if (all.length === 0) return undefined
    const profile = mergeProfiles(all.map(bytes => decodeProfile(bytes, blocks)))
    return { profile, from: heard.length === 0 ? 'own' : 'peers', voices: all.length }
  }

  #kept(image: string): KeptProfiles {
    return this.#table.getSync(image) ?? {}
  }

  async #put(image: string, kept: KeptProfiles): Promise<void> {
    const isNew = this.#table.getSync(image) === undefined
    if (isNew && this.#count >= MAX_PROFILED_IMAGES) await this.#forgetAny()
    await this.#table.put(image, kept)
    if (isNew) this.#count++
    this.#changed(image)
  }

  /** Ids are hashes, so the first is any. */
  async #forgetAny(): Promise<void> {
    for await (const [image] of this.#table.entries()) {
      await this.#table.delete(image)
      this.#count--
      return
    }
  }

  #changed(image: string): void {
    for (const listener of this.#listeners) listener(image)
  }
}

function hashOf(bytes: Uint8Array): string {
  return toHex(sha256(bytes))
}

function packed(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

function unpacked(text: string): Uint8Array {
  return Buffer.from(text, 'base64')
}
