/** Everything of the directory that reads foreign bytes or text: nothing but the promised errors, and no surprises. */

import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { bareAddress, mayDial, REACH, reachMet, reachOf } from '../../src/directory/addresses.ts'
import { openLease, sealLease } from '../../src/directory/lease-record.ts'
import { MAX_LEASE_RECORD_BYTES, MAX_LEASES_PER_KEY } from '../../src/directory/limits.ts'
import {
  type DirectoryResponse,
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  hashesOf,
  packHashes
} from '../../src/directory/messages.ts'
import { openReplica, sealReplica } from '../../src/directory/replica-record.ts'
import { HASH_BYTES, HASH_SPAN } from '../../src/directory/sharer-sketch.ts'
import { RowanError } from '../../src/errors.ts'
import { sealRecord } from '../../src/image/signed.ts'
import { imageNumber, NOW, RELEASE } from '../unit/directory/support.ts'

const SEED = 20261121
let key: PrivateKey
let replica: Uint8Array
let lease: Uint8Array
beforeAll(async () => {
  key = await generateKeyPair('Ed25519')
  replica = await sealReplica(
    {
      image: imageNumber(1),
      peer: key.publicKey.toString(),
      addresses: ['/ip4/1.2.3.4/tcp/5', '/dns4/example.org/tcp/5'],
      complete: true,
      sequence: 12345,
      expiresMs: NOW
    },
    key
  )
  const times = { issuedMs: NOW, runningUntilMs: NOW + 1_800_000, keepUntilMs: 0 }
  lease = await sealLease({ release: RELEASE, sequence: 12345, ...times, givenBack: false }, key)
})

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map(array => new Uint8Array(array))
const request = fc.record(
  {
    puts: fc.array(fc.record({ table: fc.integer({ min: 1, max: 3 }), record: bytes(300) }), { maxLength: 4 }),
    latest: fc.record({
      appliance: fc.string({ maxLength: 100 }),
      knownDigest: fc.constantFrom(new Uint8Array(0), new Uint8Array(32).fill(7)),
      second: fc.boolean()
    }),
    replicas: fc.record({ image: fc.constant(new Uint8Array(32).fill(9)) }),
    sharers: fc.record({ release: fc.constantFrom(RELEASE, `${RELEASE}.1`), hashes: fc.boolean() })
  },
  { requiredKeys: ['puts'] }
)
/** Ascending, each a multiple of 2^-48 in [0, 1). */
const hashes = fc
  .uniqueArray(fc.nat(HASH_SPAN - 1), { maxLength: 40 })
  .map(places => places.toSorted((a, b) => a - b).map(place => place / HASH_SPAN))
const found = fc.record({ record: bytes(200), verified: fc.boolean(), met: fc.nat(2) })
const response = fc.record(
  {
    status: fc.nat(2),
    outcomes: fc.array(fc.string({ maxLength: 20 }), { maxLength: 4 }),
    latest: fc.record({
      record: bytes(500),
      same: fc.boolean(),
      conflict: fc.boolean(),
      replicas: fc.array(found, { maxLength: 32 }),
      heldSinceMs: fc.maxSafeNat()
    }),
    replicas: fc.record({ replicas: fc.array(found, { maxLength: 32 }), heldSinceMs: fc.maxSafeNat() }),
    sharers: fc.record({
      hashes: hashes.map(packHashes),
      threshold: fc.nat(HASH_SPAN),
      inUseForMs: fc.nat(90 * 86_400_000),
      tenureMs: fc.nat(1000 * 86_400_000),
      all: fc.boolean()
    })
  },
  { requiredKeys: ['status', 'outcomes'] }
)

/** The bytes of something valid, with a few of them changed, cut off or doubled. */
const damaged = (valid: fc.Arbitrary<Uint8Array>) =>
  fc
    .record({
      from: valid,
      edits: fc.array(fc.record({ at: fc.nat(10_000), value: fc.nat(255) }), { maxLength: 6 }),
      cutTo: fc.option(fc.nat(10_000)),
      tail: bytes(20)
    })
    .map(({ from, edits, cutTo, tail }) => {
      const copy = new Uint8Array(from)
      if (copy.byteLength > 0) for (const { at, value } of edits) copy[at % copy.byteLength] = value
      return new Uint8Array(Buffer.concat([cutTo === null ? copy : copy.subarray(0, cutTo), tail]))
    })

function onlyThrows(codes: string[], run: () => unknown): void {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(RowanError)
    expect(codes).toContain((error as RowanError).code)
  }
}

test('a request comes out as it went in', () => {
  const same = fc.property(request, value => {
    expect(decodeRequest(encodeRequest(value as never))).toEqual(value)
  })
  fc.assert(same, { seed: SEED, numRuns: 500 })
})

test('a response comes out as it went in', () => {
  const same = fc.property(response, value => {
    expect(decodeResponse(encodeResponse(value as DirectoryResponse))).toEqual(value)
  })
  fc.assert(same, { seed: SEED, numRuns: 500 })
})

test('foreign bytes are a message or WIRE_INVALID', () => {
  const requests = damaged(request.map(value => encodeRequest(value as never)))
  const responses = damaged(response.map(value => encodeResponse(value as DirectoryResponse)))
  const decoders = [decodeRequest, decodeResponse]
  const holds = fc.property(fc.oneof(bytes(400), requests, responses), input => {
    for (const decode of decoders) onlyThrows(['WIRE_INVALID'], () => decode(input))
  })
  fc.assert(holds, { seed: SEED, numRuns: 4000 })
})

test('counts beyond their bounds are refused before they cost memory', () => {
  const put = { table: 1, record: new Uint8Array(1) }
  expect(() => decodeRequest(encodeRequest({ puts: Array(5).fill(put) }))).toThrow(RowanError)
  const replicas = Array.from({ length: 33 }, () => ({ record: new Uint8Array(1), verified: true, met: 0 }))
  const flood: DirectoryResponse = { status: 0, outcomes: [], replicas: { replicas, heldSinceMs: 0 } }
  expect(() => decodeResponse(encodeResponse(flood))).toThrow(RowanError)
  const strange: DirectoryResponse = {
    status: 0,
    outcomes: [],
    replicas: { replicas: [{ record: new Uint8Array(1), verified: true, met: 3 }], heldSinceMs: 0 }
  }
  expect(() => decodeResponse(encodeResponse(strange))).toThrow(RowanError)
  expect(() => decodeRequest(new Uint8Array(400_000))).toThrow(RowanError)
  expect(() => decodeRequest(encodeRequest({ puts: [{ table: 4, record: new Uint8Array(1) }] }))).toThrow(RowanError)
})

test('a damaged replica record is RECORD_INVALID or SIGNATURE_INVALID', async () => {
  const holds = fc.asyncProperty(damaged(fc.constant(0).map(() => replica)), async input => {
    try {
      await openReplica(input)
      expect(Buffer.compare(input, replica)).toBe(0)
    } catch (error) {
      expect(['RECORD_INVALID', 'SIGNATURE_INVALID']).toContain((error as RowanError).code)
    }
  })
  await fc.assert(holds, { seed: SEED, numRuns: 1500 })
})

test('a signed payload of any bytes is a replica record or RECORD_INVALID or SIGNATURE_INVALID', async () => {
  const holds = fc.asyncProperty(bytes(300), async payload => {
    const sealed = await sealRecord('rowan-replica', payload, key)
    await expect(openReplica(sealed)).rejects.toMatchObject({ name: 'RowanError' })
  })
  await fc.assert(holds, { seed: SEED, numRuns: 300 })
})

test('hashes come out of an answer as they went in', () => {
  const same = fc.property(hashes, values => {
    const answer = { hashes: packHashes(values), threshold: 0, inUseForMs: 0, tenureMs: 0, all: true }
    expect(hashesOf(answer)).toEqual(values)
  })
  fc.assert(same, { seed: SEED, numRuns: 500 })
})

test.each([
  ['more hashes than a holder keeps', { hashes: new Uint8Array((MAX_LEASES_PER_KEY + 1) * HASH_BYTES) }],
  ['half a hash', { hashes: new Uint8Array(HASH_BYTES + 1) }],
  ['hashes that come twice', { hashes: new Uint8Array(2 * HASH_BYTES) }],
  ['a threshold beyond 1', { threshold: HASH_SPAN + 1 }],
  ['use for ever', { inUseForMs: Number.MAX_SAFE_INTEGER }],
  ['a tenure since before there were computers', { tenureMs: 2 ** 52 }]
])('an answer with %s is refused', (_, values) => {
  const sharers = { hashes: new Uint8Array(0), threshold: 0, inUseForMs: 0, tenureMs: 0, all: true, ...values }
  expect(() => decodeResponse(encodeResponse({ status: 0, outcomes: [], sharers }))).toThrow(RowanError)
})

test.each(['', 'grid@v1', RELEASE.split('@')[0]!, `${RELEASE}/x`, `${RELEASE}${'x'.repeat(70)}`])(
  'a question for %j is refused',
  release => {
    const asks = encodeRequest({ puts: [], sharers: { release, hashes: true } })
    expect(() => decodeRequest(asks)).toThrow(RowanError)
  }
)

test('a damaged lease is RECORD_INVALID or SIGNATURE_INVALID', async () => {
  const holds = fc.asyncProperty(damaged(fc.constant(0).map(() => lease)), async input => {
    try {
      await openLease(input)
      expect(Buffer.compare(input, lease)).toBe(0)
    } catch (error) {
      expect(['RECORD_INVALID', 'SIGNATURE_INVALID']).toContain((error as RowanError).code)
    }
  })
  await fc.assert(holds, { seed: SEED, numRuns: 1500 })
})

test('a signed payload of any bytes is a lease within its bounds, or RECORD_INVALID', async () => {
  const payload = fc.oneof(
    bytes(MAX_LEASE_RECORD_BYTES),
    damaged(fc.constant(0).map(() => lease.subarray(lease.byteLength - 200, lease.byteLength - 66)))
  )
  const holds = fc.asyncProperty(payload, async value => {
    const sealed = await sealRecord('rowan-lease', value, key)
    try {
      expect((await openLease(sealed)).release).toMatch(/^[^/]+\/[^/@]+@[^@]+$/)
    } catch (error) {
      expect((error as RowanError).code).toBe('RECORD_INVALID')
    }
  })
  await fc.assert(holds, { seed: SEED, numRuns: 500 })
})

test('any text is an address or none; what is kept is its own shortest form and leads nowhere else', () => {
  const peer = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
  const over = '/p2p/12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi/p2p-circuit'
  let relayed = 0
  const part = fc.oneof(
    fc.ipV4().map(ip => `/ip4/${ip}`),
    fc.ipV6().map(ip => `/ip6/${ip}`),
    fc.domain().map(name => `/dns4/${name}`),
    fc.nat(70_000).map(port => `/tcp/${port}`),
    fc.constantFrom('/ws', '/tls', '/p2p-circuit', `/p2p/${peer}`, over, '/quic-v1', '/unix/x', '/', ''),
    // Most of what is made of parts is no address at all; this often is.
    fc.tuple(fc.ipV4(), fc.nat(70_000)).map(([ip, port]) => `/ip4/${ip}/tcp/${port}${over}`),
    fc.string({ maxLength: 12 })
  )
  const text = fc.array(part, { maxLength: 6 }).map(parts => parts.join(''))
  const holds = fc.property(text, address => {
    expect([0, 1, 2]).toContain(reachOf(address))
    expect([0, 1, 2]).toContain(reachMet(address))
    expect(mayDial(address, REACH.loopback)).toBe(true)
    const bare = bareAddress(address, peer)
    if (bare === undefined) return
    expect(bareAddress(bare, peer)).toBe(bare)
    expect(bareAddress(`${bare}/p2p/${peer}`, peer)).toBe(bare)
    expect(reachOf(bare)).toBe(reachOf(address))
    // One relay at the end, or none.
    const dialled = bare.endsWith(over) ? bare.slice(0, -over.length) : bare
    if (dialled !== bare) relayed++
    expect(dialled).not.toMatch(/p2p|unix/)
    expect(reachOf(dialled)).toBe(reachOf(bare))
    expect(bare.match(/\/(ip4|ip6|dns4)\//g)).toHaveLength(1)
  })
  fc.assert(holds, { seed: SEED, numRuns: 5000 })
  expect(relayed).toBeGreaterThan(100)
})
