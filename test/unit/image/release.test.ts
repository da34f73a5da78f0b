import { generateKeyPair } from '@libp2p/crypto/keys'
import { expect, test } from 'vitest'
import { sha256, toHex } from '../../../src/image/hash.ts'
import {
  type Channel,
  type Delegation,
  type Latest,
  openDelegation,
  openLatest,
  type Release,
  sealDelegation,
  sealLatest
} from '../../../src/image/release.ts'
import { encodeDelegation, encodeLatest, MAX_LATEST_BYTES } from '../../../src/image/release-codec.ts'
import { openRecord, sealRecord } from '../../../src/image/signed.ts'
import { testLatest, testPublisher, testRelease } from './records.ts'
import { withCode } from './with-code.ts'

const own = await testPublisher()
const foreign = await testPublisher()

test('a record of an appliance opens with all that was put in', async () => {
  const latest = testLatest(own, {
    releases: [
      testRelease('v1', { labels: {} }),
      testRelease('v2', {
        parent: 'v1',
        zeroBlocks: 24_576,
        profile: toHex(sha256(Buffer.from('profile'))),
        webSeeds: ['https://example.org/images/', 'http://192.0.2.7:8080/'],
        labels: { z: 'ü', a: '', ['__proto__']: 'x', 10: 'b', 9: 'c' }
      })
    ]
  })
  const bytes = await sealLatest(latest, own.releaseKey)
  const opened = await openLatest(bytes)
  const { payload } = await openRecord('rowan-latest', bytes, { maxBytes: MAX_LATEST_BYTES })
  const { bytes: kept, delegationSequence, digest, delegation, ...rest } = opened
  const { delegation: sealed, ...expected } = latest
  expect(rest).toEqual(expected)
  expect(Buffer.from(delegation)).toEqual(Buffer.from(sealed))
  expect(Buffer.from(kept)).toEqual(Buffer.from(bytes))
  expect(delegationSequence).toBe(4)
  expect(digest).toBe(toHex(sha256(payload)))
  // What was opened can be signed again as it is.
  expect(Buffer.from(await sealLatest(opened, own.releaseKey))).toEqual(Buffer.from(bytes))
})

test('labels have one encoding, in whatever order they were given', async () => {
  const digestOf = async (labels: Record<string, string>) => {
    const latest = testLatest(own, { releases: [testRelease('v1', { labels }), testRelease('v2')] })
    return (await openLatest(await sealLatest(latest, own.releaseKey))).digest
  }
  expect(await digestOf({ a: '1', b: '2' })).toBe(await digestOf({ b: '2', a: '1' }))
})

test('a release without a profile has the encoding that it always had', () => {
  const [with_, without] = [{ profile: toHex(sha256(Buffer.from('profile'))) }, {}].map(changes =>
    encodeLatest(testLatest(own, { releases: [testRelease('v1', changes), testRelease('v2')] }))
  )
  // Field 8 of the release: a tag, a length, 32 bytes.
  expect(with_!.byteLength).toBe(without!.byteLength + 34)
})

test('a release without web seeds has the encoding that it always had', () => {
  const [with_, without] = [{ webSeeds: ['https://a.example/'] }, {}].map(changes =>
    encodeLatest(testLatest(own, { releases: [testRelease('v1', changes), testRelease('v2')] }))
  )
  // Field 9 of the release: a tag, a length, the text.
  expect(with_!.byteLength).toBe(without!.byteLength + 20)
})

test('a delegation opens with all that was put in', async () => {
  expect(await openDelegation(own.sealedDelegation)).toEqual(own.delegation)
})

test('the bytes that were opened may be used again', async () => {
  const bytes = Uint8Array.from(await sealLatest(testLatest(own), own.releaseKey))
  const opened = await openLatest(bytes)
  const before = Buffer.from(opened.bytes).toString('hex')
  bytes.fill(0)
  expect(Buffer.from(opened.bytes).toString('hex')).toBe(before)
})

test('a delegation is signed by its own publisher', async () => {
  await expect(sealDelegation(own.delegation, foreign.rootKey)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
  const forged = await sealRecord('rowan-delegation', encodeDelegation(own.delegation), foreign.rootKey)
  await expect(openDelegation(forged)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
})

test('a record is signed by the key that its delegation names', async () => {
  const latest = testLatest(own)
  for (const key of [own.rootKey, foreign.releaseKey, await generateKeyPair('Ed25519')]) {
    await expect(sealLatest(latest, key)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
    const forged = await sealRecord('rowan-latest', encodeLatest(latest), key)
    await expect(openLatest(forged)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
  }
})

test('nobody releases under the name of another publisher', async () => {
  const stolen = testLatest(own, { delegation: foreign.sealedDelegation })
  await expect(sealLatest(stolen, foreign.releaseKey)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
  const forged = await sealRecord('rowan-latest', encodeLatest(stolen), foreign.releaseKey)
  await expect(openLatest(forged)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
})

test('a record does not outlive its delegation', async () => {
  const tooLong = testLatest(own, { expiresMs: own.delegation.expiresMs + 1 })
  const forged = await sealRecord('rowan-latest', encodeLatest(tooLong), own.releaseKey)
  await expect(openLatest(forged)).rejects.toThrow(withCode('RECORD_INVALID'))
  const asLong = testLatest(own, { expiresMs: own.delegation.expiresMs })
  await expect(openLatest(await sealLatest(asLong, own.releaseKey))).resolves.toBeDefined()
})

const release = (changes: Partial<Release>): Partial<Latest> => ({
  releases: [testRelease('v1', changes), testRelease('v2')]
})
const channel = (changes: Partial<Channel>): Partial<Latest> => ({
  channels: [{ name: 'stable', version: 'v2', rolloutPercent: 100, ...changes }]
})
const many = (count: number) => Array.from({ length: count }, (_, index) => String(index))
const labels = (count: number) => Object.fromEntries(many(count).map(key => [key, 'x']))

const refused: [string, Partial<Latest>][] = [
  ['an appliance without publisher', { appliance: 'grid' }],
  ['an appliance with a version', { appliance: `${own.publisher}/grid@v1` }],
  ['an appliance of no peer id', { appliance: `${'1'.repeat(52)}/grid` }],
  ['an appliance of an RSA key', { appliance: 'QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ/grid' }],
  ['an expiry before its issue', { issuedMs: 50_000, expiresMs: 50_000 }],
  ['two releases with one version', { releases: [testRelease('v1'), testRelease('v2'), testRelease('v1')] }],
  ['too many releases', { releases: many(513).map(version => testRelease(version)), channels: [] }],
  ['a version that is no name', release({ version: 'V1' })],
  ['a parent that is no name', release({ parent: '' })],
  ['no bytes', release({ sizeBytes: 0, blocks: 0 })],
  ['too many bytes', release({ sizeBytes: 2 ** 43 + 1, blocks: 2 ** 27 + 1 })],
  ['too many web seeds', release({ webSeeds: many(5).map(name => `https://example.org/${name}/`) })],
  ['a web seed twice', release({ webSeeds: ['https://example.org/', 'https://example.org/'] })],
  ['a web seed that is no URL', release({ webSeeds: ['example.org'] })],
  ['a web seed in another spelling', release({ webSeeds: ['https://Example.org/'] })],
  ['a web seed that names a file', release({ webSeeds: ['https://example.org/images'] })],
  ['a web seed of another kind', release({ webSeeds: ['file:///etc/'] })],
  ['a web seed with a password', release({ webSeeds: ['https://a:b@example.org/'] })],
  ['a web seed that is too long', release({ webSeeds: [`https://example.org/${'x'.repeat(256)}/`] })],
  ['more zero blocks than blocks', release({ zeroBlocks: 24_577 })],
  ['too many labels', release({ labels: labels(33) })],
  ['a label with a long key', release({ labels: { ['x'.repeat(257)]: '' } })],
  ['a label with a long value', release({ labels: { x: 'ü'.repeat(129) } })],
  ['too many channels', { channels: many(65).map(name => ({ name, version: 'v1', rolloutPercent: 100 })) }],
  ['two channels with one name', { channels: [...testLatest(own).channels, ...testLatest(own).channels] }],
  ['a channel that is no name', channel({ name: '' })],
  ['a channel to a version that is not there', channel({ version: 'v3' })],
  ['a channel from a version that is not there', channel({ previous: 'v0' })],
  ['a rollout of 0 %', channel({ rolloutPercent: 0 })],
  ['a rollout of 101 %', channel({ rolloutPercent: 101 })]
]

/** Faults that the encoding has no room for, so that they cannot come from outside. */
const unsendable: [string, Partial<Latest>][] = [
  ['a negative time', { issuedMs: -1 }],
  ['a time beyond what a number can hold', { expiresMs: 2 ** 53 }],
  ['a sequence that is no integer', { sequence: 1.5 }],
  ['an image that is no hash', release({ image: 'abc' })],
  ['a profile that is no hash', release({ profile: 'abc' })],
  ['blocks that do not fit to the size', release({ blocks: 5 })],
  ['a negative number of zero blocks', release({ zeroBlocks: -1 })],
  ['a label that is no Unicode', release({ labels: { x: '\ud800' } })],
  ['a rollout of 2.5 %', channel({ rolloutPercent: 2.5 })]
]

test.each(refused)('is not signed, and refused when signed: %s', async (_what, changes) => {
  const latest = testLatest(own, changes)
  await expect(sealLatest(latest, own.releaseKey)).rejects.toThrow(withCode('RECORD_INVALID'))
  const forged = await sealRecord('rowan-latest', encodeLatest(latest), own.releaseKey)
  await expect(openLatest(forged)).rejects.toThrow(withCode('RECORD_INVALID'))
})

test.each(unsendable)('is not signed: %s', async (_what, changes) => {
  await expect(sealLatest(testLatest(own, changes), own.releaseKey)).rejects.toThrow(withCode('RECORD_INVALID'))
})

test.each<[string, Partial<Delegation>]>([
  ['a publisher that is no peer id', { publisher: 'x' }],
  ['a release key that is no peer id', { releaseKey: '' }],
  ['an expiry before its issue', { expiresMs: 5 }],
  ['a negative sequence', { sequence: -1 }]
])('a delegation with %s is refused', async (_what, changes) => {
  const delegation = { ...own.delegation, ...changes }
  await expect(sealDelegation(delegation, own.rootKey)).rejects.toThrow(withCode('RECORD_INVALID'))
  if (delegation.sequence < 0) return // cannot be encoded
  const forged = await sealRecord('rowan-delegation', encodeDelegation(delegation), own.rootKey)
  await expect(openDelegation(forged)).rejects.toThrow(withCode('RECORD_INVALID'))
})

test.each(['80808080808080' + '10', 'ffffffffffffffff' + '01', 'ffffffffffffffffff' + '01'])(
  'a sequence that no number can hold is refused: %s',
  async varint => {
    const sequence = Buffer.from(`18${varint}`, 'hex')
    const { sequence: _, ...rest } = own.delegation
    const whole = encodeDelegation({ ...rest, sequence: 0 })
    const forged = await sealRecord('rowan-delegation', Buffer.concat([whole, sequence]), own.rootKey)
    await expect(openDelegation(forged)).rejects.toThrow(withCode('RECORD_INVALID'))
  }
)

test('512 releases with 64 channels fit, and more than 256 KiB do not', async () => {
  const releases = many(512).map(version => testRelease(version))
  const channels = many(64).map(name => ({ name, version: name, rolloutPercent: 100 }))
  const bytes = await sealLatest(testLatest(own, { releases, channels }), own.releaseKey)
  expect((await openLatest(bytes)).releases.length).toBe(512)
  const padded = many(512).map(version =>
    testRelease(version, { labels: { note: 'x'.repeat(256), more: 'x'.repeat(256) } })
  )
  const tooLarge = testLatest(own, { releases: padded, channels })
  await expect(sealLatest(tooLarge, own.releaseKey)).rejects.toThrow(withCode('RECORD_INVALID'))
  const forged = await sealRecord('rowan-latest', encodeLatest(tooLarge), own.releaseKey)
  await expect(openLatest(forged)).rejects.toThrow(withCode('RECORD_INVALID'))
})

test('a payload that is not in its canonical encoding is refused, though it was signed', async () => {
  const payload = encodeLatest(testLatest(own))
  const faulty = [Buffer.concat([payload, Uint8Array.of(0x78, 1)]), Buffer.concat([Uint8Array.of(0x10, 6), payload])]
  for (const bytes of faulty) {
    const forged = await sealRecord('rowan-latest', bytes, own.releaseKey)
    await expect(openLatest(forged)).rejects.toThrow(withCode('RECORD_INVALID'))
  }
})
