/** What the directory's tests share: a clock that stands still, dice with a seed, and records of made-up publishers. */

import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import type { LatestRecord } from '../../../src/directory/held-latest.ts'
import type { LeaseEntry } from '../../../src/directory/held-leases.ts'
import type { ReplicaEntry } from '../../../src/directory/held-replicas.ts'
import type { Clock, Log, Random, Timer } from '../../../src/environment.ts'
import {
  openLatest,
  type Release,
  sealDelegation,
  sealLatest,
  type VerifiedLatest
} from '../../../src/image/release.ts'

export const HOUR_MS = 3_600_000
export const DAY_MS = 24 * HOUR_MS
/** A moment in 2026. */
export const NOW = 1_795_000_000_000

export class FakeClock implements Clock {
  #now: number
  #monotonicMs = 0
  readonly #timers = new Set<{ atMs: number; run: () => void }>()

  constructor(now = NOW) {
    this.#now = now
  }

  now(): number {
    return this.#now
  }

  monotonicMs(): number {
    return this.#monotonicMs
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = { atMs: this.#monotonicMs + delayMs, run }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  /** Lets time pass, running each timer at its moment, and what follows from it at once. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonicMs + ms
    for (;;) {
      await settled()
      const next = [...this.#timers].filter(t => t.atMs <= end).toSorted((a, b) => a.atMs - b.atMs)[0]
      if (next === undefined) break
      this.#pass(next.atMs - this.#monotonicMs)
      this.#timers.delete(next)
      next.run()
    }
    this.#pass(end - this.#monotonicMs)
    await settled()
  }

  /** Somebody sets the wall clock. */
  jump(ms: number): void {
    this.#now += ms
  }

  #pass(ms: number): void {
    this.#monotonicMs += ms
    this.#now += ms
  }
}

/** Until every promise that can settle without a timer has settled. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise(resolve => setImmediate(resolve))
}

/** mulberry32: small, and the same dice for the same seed. */
export function seeded(seed: number): Random {
  let state = seed >>> 0
  const unit = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  return { unit, bytes: count => Uint8Array.from({ length: count }, () => Math.floor(unit() * 256)) }
}

export interface LogLine {
  level: 'debug' | 'info' | 'warn'
  message: string
  values: Record<string, unknown> | undefined
}

export function recordingLog(): Log & { lines: LogLine[] } {
  const lines: LogLine[] = []
  const at = (level: LogLine['level']) => (message: string, values?: Record<string, unknown>) => {
    lines.push({ level, message, values })
  }
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn') }
}

export class TestPublisher {
  readonly root: PrivateKey
  readonly release: PrivateKey

  static async create(): Promise<TestPublisher> {
    return new TestPublisher(await generateKeyPair('Ed25519'), await generateKeyPair('Ed25519'))
  }

  private constructor(root: PrivateKey, release: PrivateKey) {
    this.root = root
    this.release = release
  }

  get id(): string {
    return this.root.publicKey.toString()
  }

  /** The same publisher with another release key. */
  async rotated(): Promise<TestPublisher> {
    return new TestPublisher(this.root, await generateKeyPair('Ed25519'))
  }

  appliance(name = 'grid'): string {
    return `${this.id}/${name}`
  }

  async latest(
    options: {
      name?: string
      sequence?: number
      delegation?: number
      images?: string[]
      issuedMs?: number
      expiresMs?: number
      label?: string
    } = {}
  ): Promise<VerifiedLatest> {
    const issuedMs = options.issuedMs ?? NOW
    const expiresMs = options.expiresMs ?? issuedMs + 7 * DAY_MS
    const delegation = await sealDelegation(
      {
        publisher: this.id,
        releaseKey: this.release.publicKey.toString(),
        sequence: options.delegation ?? 1,
        issuedMs: 0,
        expiresMs: issuedMs + 400 * DAY_MS
      },
      this.root
    )
    const releases = (options.images ?? [imageNumber(1)]).map(
      (image, i): Release => ({
        version: `v${i + 1}`,
        image,
        sizeBytes: 65_536,
        blocks: 1,
        zeroBlocks: 0,
        labels: options.label === undefined ? {} : { note: options.label, more: options.label },
        publishedMs: issuedMs
      })
    )
    const channels = [{ name: 'stable', version: `v${releases.length}`, rolloutPercent: 100 }]
    const appliance = this.appliance(options.name)
    const sequence = options.sequence ?? 1
    return openLatest(
      await sealLatest({ appliance, sequence, issuedMs, expiresMs, channels, releases, delegation }, this.release)
    )
  }
}

export function imageNumber(n: number): string {
  return n.toString(16).padStart(64, '0')
}

/** A replica record as the holder gets it, without a real signature. */
export function replicaEntry(values: Partial<ReplicaEntry> & { sizeBytes?: number } = {}): ReplicaEntry {
  const { sizeBytes = 300, ...rest } = values
  const entry: ReplicaEntry = {
    table: 'replicas',
    key: imageNumber(1),
    signer: 'peer-1',
    sequence: 1,
    expiresMs: NOW + HOUR_MS,
    digest: '',
    complete: true,
    bytes: new Uint8Array(sizeBytes),
    verified: true,
    met: 0,
    ...rest
  }
  return { ...entry, digest: values.digest ?? `${entry.key}/${entry.signer}/${entry.sequence}/${entry.complete}` }
}

export function latestEntry(values: Partial<LatestRecord> & { sizeBytes?: number } = {}): LatestRecord {
  const { sizeBytes = 1000, ...rest } = values
  const entry: LatestRecord = {
    table: 'latest',
    key: 'publisher-1/grid',
    signer: 'publisher-1',
    sequence: 1,
    issuedMs: NOW,
    expiresMs: NOW + 7 * DAY_MS,
    digest: '',
    delegationSequence: 1,
    images: [imageNumber(1)],
    bytes: new Uint8Array(sizeBytes),
    ...rest
  }
  return { ...entry, digest: values.digest ?? `${entry.key}/${entry.sequence}` }
}

export const RELEASE = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW/grid@v1'

/** A lease as the holder gets it: of a machine that runs, for half an hour. */
export function leaseEntry(values: Partial<LeaseEntry> = {}): LeaseEntry {
  return {
    table: 'sharers',
    key: RELEASE,
    signer: 'sharer-1',
    hash: 0.5,
    sequence: 1,
    issuedMs: NOW,
    runningUntilMs: NOW + HOUR_MS / 2,
    keepUntilMs: 0,
    givenBack: false,
    ...values
  }
}
