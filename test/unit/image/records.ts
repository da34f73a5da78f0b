/**
 * A publisher with its keys, and records of it that are right in every way.
 */
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { blockCount } from '../../../src/image/block.ts'
import { sha256, toHex } from '../../../src/image/hash.ts'
import { type Delegation, type Latest, type Release, sealDelegation } from '../../../src/image/release.ts'

export interface TestPublisher {
  rootKey: PrivateKey
  releaseKey: PrivateKey
  publisher: string
  delegation: Delegation
  sealedDelegation: Uint8Array
}

/** @param seed - 0 to 255, for keys that are the same in every run */
export async function testPublisher(seed?: number): Promise<TestPublisher> {
  const rootKey = await newKey(seed)
  const releaseKey = await newKey(seed === undefined ? undefined : seed + 1)
  const publisher = rootKey.publicKey.toString()
  const delegation = {
    publisher,
    releaseKey: releaseKey.publicKey.toString(),
    sequence: 4,
    issuedMs: 1_000,
    expiresMs: 100_000
  }
  return { rootKey, releaseKey, publisher, delegation, sealedDelegation: await sealDelegation(delegation, rootKey) }
}

export function testRelease(version: string, changes: Partial<Release> = {}): Release {
  const sizeBytes = changes.sizeBytes ?? 1_610_612_736
  return {
    version,
    image: toHex(sha256(Buffer.from(version))),
    sizeBytes,
    blocks: blockCount(sizeBytes),
    zeroBlocks: 0,
    labels: { arch: 'x86_64', os: 'debian' },
    publishedMs: 2_000,
    ...changes
  }
}

export function testLatest(from: TestPublisher, changes: Partial<Latest> = {}): Latest {
  return {
    appliance: `${from.publisher}/grid`,
    sequence: 7,
    issuedMs: 2_000,
    expiresMs: 50_000,
    channels: [
      { name: 'stable', version: 'v2', rolloutPercent: 30, previous: 'v1' },
      { name: 'testing', version: 'v2', rolloutPercent: 100 }
    ],
    releases: [testRelease('v1'), testRelease('v2', { parent: 'v1' })],
    delegation: from.sealedDelegation,
    ...changes
  }
}

async function newKey(seed: number | undefined): Promise<PrivateKey> {
  if (seed === undefined) return generateKeyPair('Ed25519')
  return generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(seed))
}
