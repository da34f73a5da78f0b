/**
 * The keys of this peer's publisher: who may release its appliances.
 *
 * The *root key* is the publisher: its peer id is the first half of every appliance's name. It signs one thing only, the
 * *delegation*: that the *release key* may sign releases, for a year. So the root key can be kept elsewhere: exported,
 * then removed from `keys/`; publishing goes on without it while the delegation lives. The delegation's sequence number
 * grows with each new release key, and a client that has seen a higher one refuses what the old key signed: that is how
 * a stolen release key is revoked. A renewal for the same key keeps the number.
 *
 * Sequence numbers are the time in milliseconds where that is higher, so that a root key brought to a new host outranks
 * the delegations of the old one without knowing them.
 *
 * Owns: root.key, release.key and delegation in the keys folder. Each is replaced in one step. A crash between release
 * key and delegation leaves a pair that does not match; the next start, with the root key here, signs a new delegation.
 */
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { Clock, Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { type Delegation, openDelegation, sealDelegation } from '../image/release.ts'
import { replaceFile } from '../store/durable-file.ts'
import { checkPrivate, createKeyFile, keyToText, readKeyFile, readPrivateFile, writeKeyFile } from './key-file.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** How long a delegation lives. */
export const DELEGATION_LIFETIME_MS = 365 * DAY_MS
/** With the root key here, a delegation is renewed once less than this is left of it. */
const DELEGATION_RENEWAL_MS = DELEGATION_LIFETIME_MS / 2
/** A sealed delegation has about 400 bytes. */
const MAX_DELEGATION_BYTES = 4096

export interface SigningKey {
  releaseKey: Ed25519PrivateKey
  /** The sealed delegation of `releaseKey`. */
  delegation: Uint8Array
  /** Its number: what is signed supersedes everything under a lower one. */
  delegationSequence: number
  /** Nothing that is signed may outlive this. */
  expiresMs: number
}

/** What `rowan key show` says; no secrets. */
export interface KeysShown {
  publisher: string
  rootKey: 'here' | 'elsewhere'
  releaseKey: string | undefined
  delegation: { sequence: number; issued: string; expires: string; expired: boolean } | undefined
  directory: string
}

interface Components {
  clock: Clock
  log: Log
}

interface State {
  root: Ed25519PrivateKey | undefined
  release: Ed25519PrivateKey | undefined
  delegation: { bytes: Uint8Array; opened: Delegation } | undefined
}

export class PublisherKeys {
  readonly #directory: string
  readonly #components: Components
  #state: State
  /** Changes of the files, one after the other. */
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(directory: string, components: Components, state: State) {
    this.#directory = directory
    this.#components = components
    this.#state = state
  }

  /**
   * Reads the keys; makes all of them when none is there, and what the root key can make when some are missing.
   *
   * @param directory - the keys folder, mode 0700; made when missing
   * @throws RowanError KEY_INVALID (damaged, of another kind, open to others), KEY_MISSING (a release key whose
   *   publisher cannot be told, since neither root key nor delegation is here)
   */
  static async open(directory: string, components: Components): Promise<PublisherKeys> {
    const keys = new PublisherKeys(directory, components, await readState(directory, components.log))
    const { root, release, delegation } = keys.#state
    if (root === undefined && release === undefined && delegation === undefined) {
      keys.#state.root = await generateKeyPair('Ed25519')
      await writeKeyFile(join(directory, 'root.key'), 'root', keys.#state.root)
    }
    await keys.#change(() => keys.#complete())
    if (keys.#publisherIfKnown() === undefined) {
      const says = 'has a release key, but neither root key nor delegation; run `rowan key import FILE`'
      throw new RowanError('KEY_MISSING', `${directory} ${says}`)
    }
    return keys
  }

  /**
   * Brings a root key to a folder whose keys may be missing or, with `replace`, broken; see `importRoot`.
   *
   * @throws RowanError KEY_EXISTS, KEY_INVALID
   */
  static async import(
    directory: string,
    file: string,
    components: Components,
    options: { replace?: boolean } = {}
  ): Promise<PublisherKeys> {
    let state: State
    try {
      state = await readState(directory, components.log)
    } catch (error) {
      if (options.replace !== true) throw error
      components.log.warn('replacing keys that cannot be used', { directory, error })
      state = { root: undefined, release: undefined, delegation: undefined }
    }
    const keys = new PublisherKeys(directory, components, state)
    await keys.importRoot(file, options)
    return keys
  }

  /** The peer id of the root key. */
  get publisher(): string {
    return this.#publisherIfKnown()!
  }

  /** @throws RowanError KEY_MISSING */
  get releaseKey(): Ed25519PrivateKey {
    if (this.#state.release === undefined) throw new RowanError('KEY_MISSING', `no ${this.#path('release.key')}`)
    return this.#state.release
  }

  /** The sealed delegation. @throws RowanError KEY_MISSING */
  get delegation(): Uint8Array {
    if (this.#state.delegation === undefined) throw new RowanError('KEY_MISSING', `no ${this.#path('delegation')}`)
    return this.#state.delegation.bytes
  }

  /**
   * What signs releases now. With the root key here, a delegation that is getting old is renewed first.
   *
   * @throws RowanError KEY_MISSING, DELEGATION_EXPIRED
   */
  signing(): Promise<SigningKey> {
    return this.#change(async () => {
      await this.#complete()
      const { releaseKey, delegation } = this
      const { expiresMs, sequence: delegationSequence } = this.#state.delegation!.opened
      if (expiresMs <= this.#components.clock.now()) {
        const says = `the delegation of release key ${idOf(releaseKey)} expired on ${iso(expiresMs)}`
        throw new RowanError('DELEGATION_EXPIRED', `${says}, and the root key is not here to renew it`)
      }
      return { releaseKey, delegation, delegationSequence, expiresMs }
    })
  }

  /** The root key as text, for a copy in a safe place. @throws RowanError KEY_MISSING */
  exportText(): string {
    return keyToText('root', this.#root('exported'))
  }

  /**
   * Writes a copy of the root key, mode 0600.
   *
   * @throws RowanError KEY_MISSING, FILE_EXISTS, FILE_UNWRITABLE
   */
  async exportRoot(file: string): Promise<void> {
    const root = this.#root('exported')
    try {
      await createKeyFile(file, 'root', root)
    } catch (error) {
      throw asRowanError(error, 'FILE_UNWRITABLE', `cannot write ${file}`)
    }
  }

  /**
   * Takes the root key from a file that `exportRoot` wrote. The same publisher's keeps its release key; another's needs
   * `replace`, and comes with a new release key, for what the old one signed is of another publisher.
   *
   * @throws RowanError KEY_INVALID, KEY_EXISTS, KEY_MISSING (no such file)
   */
  importRoot(file: string, options: { replace?: boolean } = {}): Promise<void> {
    return this.#change(async () => {
      // Copies travel on media without modes; in keys/ the copy gets 0600.
      const root = await readKeyFile(file, 'root', { anyMode: true })
      if (root === undefined) throw new RowanError('KEY_MISSING', `there is no file ${file}`)
      const before = this.#publisherIfKnown()
      const differs = before !== idOf(root) && (before !== undefined || this.#state.release !== undefined)
      if (differs && options.replace !== true) {
        const says = before === undefined ? 'a release key of a publisher that is not known' : `the publisher ${before}`
        throw new RowanError('KEY_EXISTS', `${this.#directory} belongs to ${says}; ${file} is of ${idOf(root)}`)
      }
      await writeKeyFile(this.#path('root.key'), 'root', root)
      this.#state.root = root
      if (differs) await this.#newRelease()
      else await this.#complete()
    })
  }

  /** Signs a new delegation for the same release key, a year from now. @throws RowanError KEY_MISSING */
  renew(): Promise<void> {
    return this.#change(async () => {
      this.#root('renewed with')
      await this.#delegate()
    })
  }

  /**
   * Makes a new release key; what the old one signed is refused by whoever has seen the new. @throws KEY_MISSING
   *
   * @param above - the highest delegation of this publisher that was seen anywhere: another host's clock may be ahead
   */
  rotate(above = 0): Promise<void> {
    return this.#change(async () => {
      this.#root('rotated with')
      await this.#newRelease(above)
    })
  }

  show(): KeysShown {
    const { root, release, delegation } = this.#state
    return {
      publisher: this.publisher,
      rootKey: root === undefined ? 'elsewhere' : 'here',
      releaseKey: release === undefined ? undefined : idOf(release),
      delegation: delegation && {
        sequence: delegation.opened.sequence,
        issued: iso(delegation.opened.issuedMs),
        expires: iso(delegation.opened.expiresMs),
        expired: delegation.opened.expiresMs <= this.#components.clock.now()
      },
      directory: this.#directory
    }
  }

  /** Makes or renews whatever is missing or old and can be made; without the root key, nothing can. */
  async #complete(): Promise<void> {
    const { root, release, delegation } = this.#state
    if (root === undefined) return
    if (release === undefined) return this.#newRelease()
    const fits =
      delegation !== undefined &&
      delegation.opened.publisher === idOf(root) &&
      delegation.opened.releaseKey === idOf(release)
    const leftMs = fits ? delegation.opened.expiresMs - this.#components.clock.now() : 0
    if (leftMs < DELEGATION_RENEWAL_MS) await this.#delegate()
  }

  async #newRelease(above = 0): Promise<void> {
    const release = await generateKeyPair('Ed25519')
    await writeKeyFile(this.#path('release.key'), 'release', release)
    this.#state.release = release
    await this.#delegate(above)
  }

  /** Signs a delegation of the release key that is here: the old number for the old key, else one above all known. */
  async #delegate(above = 0): Promise<void> {
    const root = this.#root('delegated with')
    const publisher = idOf(root)
    const releaseKey = idOf(this.releaseKey)
    const issuedMs = this.#components.clock.now()
    const old = this.#state.delegation?.opened
    const ours = old?.publisher === publisher ? old : undefined
    const sequence =
      ours !== undefined && ours.releaseKey === releaseKey
        ? ours.sequence
        : Math.max((ours?.sequence ?? 0) + 1, above + 1, Math.floor(issuedMs))
    const opened: Delegation = {
      publisher,
      releaseKey,
      sequence,
      issuedMs,
      expiresMs: issuedMs + DELEGATION_LIFETIME_MS
    }
    const bytes = await sealDelegation(opened, root)
    await replaceFile(this.#path('delegation'), bytes)
    this.#state.delegation = { bytes, opened }
    this.#components.log.info('signed a delegation', {
      publisher,
      releaseKey,
      sequence,
      expires: iso(opened.expiresMs)
    })
  }

  #root(verb: string): Ed25519PrivateKey {
    if (this.#state.root !== undefined) return this.#state.root
    const says = `nothing can be ${verb} the root key: ${this.#path('root.key')} is not here`
    throw new RowanError('KEY_MISSING', verb === 'exported' ? `no ${this.#path('root.key')} to export` : says)
  }

  #publisherIfKnown(): string | undefined {
    const { root, delegation } = this.#state
    return root === undefined ? delegation?.opened.publisher : idOf(root)
  }

  #path(name: string): string {
    return join(this.#directory, name)
  }

  /** Runs `work` after what runs already; a failure of one does not stop the next. */
  #change<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => undefined) // the caller has the error; here it only marks the turn's end
    return result
  }
}

async function readState(directory: string, log: Log): Promise<State> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  checkPrivate(directory, (await stat(directory)).mode)
  const root = await readKeyFile(join(directory, 'root.key'), 'root')
  const release = await readKeyFile(join(directory, 'release.key'), 'release')
  const bytes = await readPrivateFile(join(directory, 'delegation'), MAX_DELEGATION_BYTES)
  const state: State = { root, release, delegation: undefined }
  if (bytes === undefined) return state
  try {
    state.delegation = { bytes, opened: await openDelegation(bytes) }
  } catch (cause) {
    // With the root key at hand a new one is signed; without, there is nobody to ask.
    if (root !== undefined) {
      log.warn('the delegation is damaged; the root key will sign a new one', { directory, error: cause })
      return state
    }
    throw new RowanError('KEY_INVALID', `${join(directory, 'delegation')} is damaged`, { cause })
  }
  const { opened } = state.delegation
  if (root === undefined && release !== undefined && opened.releaseKey !== idOf(release)) {
    throw new RowanError('KEY_INVALID', `${join(directory, 'delegation')} is for another release key than the one here`)
  }
  return state
}

function idOf(key: Ed25519PrivateKey): string {
  return peerIdFromPrivateKey(key).toString()
}

function iso(timeMs: number): string {
  return new Date(timeMs).toISOString()
}
