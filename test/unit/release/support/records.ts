/** Signed records of appliances, made by a test. */
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import {
  type Channel,
  openLatest,
  type Release,
  sealDelegation,
  sealLatest,
  type VerifiedLatest
} from '../../../../src/image/release.ts'

export class TestPublisher {
  readonly id: string
  readonly #root: Ed25519PrivateKey

  private constructor(root: Ed25519PrivateKey) {
    this.#root = root
    this.id = root.publicKey.toString()
  }

  static async make(): Promise<TestPublisher> {
    return new TestPublisher(await generateKeyPair('Ed25519'))
  }

  /** A record of `grid` with these versions; `stable` points at the last one unless told otherwise. */
  async latest(
    sequence: number,
    versions: string[],
    options: { expiresMs?: number; channels?: Channel[]; name?: string } = {}
  ): Promise<VerifiedLatest> {
    const issuedMs = Date.UTC(2026, 10, 1)
    const expiresMs = options.expiresMs ?? issuedMs + 90 * 24 * 3600_000
    const releaseKey = await generateKeyPair('Ed25519')
    const delegation = await sealDelegation(
      {
        publisher: this.id,
        releaseKey: releaseKey.publicKey.toString(),
        sequence: 1,
        issuedMs,
        expiresMs: issuedMs + 365 * 24 * 3600_000
      },
      this.#root
    )
    const channels = options.channels ?? [{ name: 'stable', version: versions.at(-1)!, rolloutPercent: 100 }]
    const appliance = `${this.id}/${options.name ?? 'grid'}`
    const releases = versions.map((version, index) => releaseOf(version, issuedMs + index))
    return openLatest(
      await sealLatest({ appliance, sequence, issuedMs, expiresMs, channels, releases, delegation }, releaseKey)
    )
  }
}

/** The image that a version stands for in these tests. */
export function imageOf(version: string): string {
  return Buffer.from(version.padEnd(32, '.')).toString('hex').slice(0, 64)
}

function releaseOf(version: string, publishedMs: number): Release {
  return {
    version,
    image: imageOf(version),
    sizeBytes: 65536 * 10,
    blocks: 10,
    zeroBlocks: 1,
    labels: {},
    publishedMs
  }
}
