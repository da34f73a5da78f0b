import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { beforeAll, describe, expect, test } from 'vitest'
import { applianceOf, checkRelease, type Lease, openLease, sealLease } from '../../../src/directory/lease-record.ts'
import { MAX_LEASE_RECORD_BYTES } from '../../../src/directory/limits.ts'
import { LeasePayload } from '../../../src/directory/proto/directory.js'
import { Pseudonyms } from '../../../src/directory/pseudonyms.ts'
import { RECORD_KINDS, recordKindOf, sealRecord } from '../../../src/image/signed.ts'
import { HOUR_MS, NOW, RELEASE } from './support.ts'

const lease = (values: Partial<Lease> = {}): Lease => ({
  release: RELEASE,
  sequence: NOW,
  issuedMs: NOW,
  runningUntilMs: NOW + HOUR_MS,
  keepUntilMs: 0,
  givenBack: false,
  ...values
})
let key: PrivateKey
beforeAll(async () => {
  key = await generateKeyPair('Ed25519')
})

describe('a lease', () => {
  test('comes out as it went in, with who signed it', async () => {
    for (const values of [{}, { keepUntilMs: NOW + 2 * HOUR_MS, runningUntilMs: 0 }, { givenBack: true }]) {
      const opened = await openLease(await sealLease(lease(values), key))
      expect(opened).toEqual({ ...lease(values), signer: key.publicKey.toString() })
    }
  })

  test('of the longest names fits', async () => {
    const name = 'n'.repeat(64)
    const longest = lease({
      release: `${RELEASE.split('/')[0]}/${name}@${name}`,
      sequence: Number.MAX_SAFE_INTEGER,
      keepUntilMs: Number.MAX_SAFE_INTEGER
    })
    const bytes = await sealLease(longest, key)
    expect(bytes.byteLength).toBeLessThanOrEqual(MAX_LEASE_RECORD_BYTES)
    expect((await openLease(bytes)).sequence).toBe(Number.MAX_SAFE_INTEGER)
  })

  test.each([
    ['of no release', { release: 'grid@v1' }],
    ['of an appliance without a version', { release: RELEASE.split('@')[0]! }],
    ['of a channel', { release: `${RELEASE.split('@')[0]}:stable` }],
    ['of nothing', { release: '' }],
    ['with a negative sequence number', { sequence: -1 }],
    ['with a sequence number beyond the safe ones', { sequence: Number.MAX_SAFE_INTEGER + 1 }],
    ['that ends before it begins', { runningUntilMs: NOW, keepUntilMs: NOW - 1 }],
    ['with times that are no numbers', { issuedMs: Number.NaN }]
  ])('%s is not signed', async (_, values) => {
    await expect(sealLease(lease(values), key)).rejects.toMatchObject({ code: 'RECORD_INVALID' })
  })

  test('is refused when it is too large, damaged, of another kind or encoded another way', async () => {
    const bytes = await sealLease(lease(), key)
    const flipped = new Uint8Array(bytes)
    flipped[flipped.length - 1]! ^= 1
    await expect(openLease(flipped)).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' })
    await expect(openLease(new Uint8Array(MAX_LEASE_RECORD_BYTES + 1))).rejects.toMatchObject({
      code: 'RECORD_INVALID'
    })
    const payload = LeasePayload.encode(lease())
    const other = await sealRecord('rowan-replica', payload, key)
    await expect(openLease(other)).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    const longer = await sealRecord('rowan-lease', Buffer.concat([payload, Buffer.from([0x30, 0])]), key)
    await expect(openLease(longer)).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    const far = LeasePayload.encode({ ...lease(), sequence: Number.MAX_SAFE_INTEGER })
    const limit = await sealRecord('rowan-lease', far, key)
    expect((await openLease(limit)).sequence).toBe(Number.MAX_SAFE_INTEGER)
  })

  test('names its appliance', () => {
    expect(applianceOf(checkRelease(RELEASE))).toBe(RELEASE.split('@')[0])
  })
})

test('records say what kind they are of, and nothing else does', async () => {
  for (const kind of RECORD_KINDS) expect(recordKindOf(await sealRecord(kind, new Uint8Array(3), key))).toBe(kind)
  expect(recordKindOf(new Uint8Array(0))).toBeUndefined()
  expect(recordKindOf(Buffer.from('something else'))).toBeUndefined()
})

describe('pseudonyms', () => {
  test('are the same for an appliance whenever asked, and have nothing to do with each other or the secret', async () => {
    const secret = await generateKeyPair('Ed25519')
    const names = async () => {
      const pseudonyms = new Pseudonyms(secret)
      return Promise.all(['p/a', 'p/b', 'q/a'].map(async of => (await pseudonyms.of(of)).publicKey.toString()))
    }
    const first = await names()
    expect(await names()).toEqual(first)
    expect(new Set([...first, secret.publicKey.toString()]).size).toBe(4)
    const stranger = new Pseudonyms(await generateKeyPair('Ed25519'))
    expect((await stranger.of('p/a')).publicKey.toString()).not.toBe(first[0])
  })
})
