/** What is kept of a version's use, damaged in any way: it is read as it was written, or not at all. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MAX_CLAIM_MS, newCollectionState, observe } from '../../src/release/collection-policy.ts'
import { collectionCodec } from '../../src/release/collection-record.ts'
import { sampleCodec } from '../../src/release/sharer-history.ts'
import { MAX_CLAIMS } from '../../src/release/told-claims.ts'
import { trashCodec } from '../../src/release/trash.ts'

const SEED = 20261121
const SETTINGS = { graceMs: 1000, runningTtlMs: 600 }
const witness = fc.record({
  peer: fc.string(),
  role: fc.constantFrom('holder' as const, 'replica' as const),
  tenureMs: fc.nat(1e9),
  inUseForMs: fc.nat(1e9),
  hashes: fc.uniqueArray(
    fc.nat(30).map(part => part / 31),
    { maxLength: 8 }
  )
})
const observation = fc.record({
  poll: fc.option(fc.record({ holdersAsked: fc.nat(20), witnesses: fc.array(witness, { maxLength: 22 }) })),
  elapsedMs: fc.nat(100_000),
  pointedAt: fc.boolean()
})

test('every state that the policy makes comes back as it was', () => {
  fc.assert(
    fc.property(fc.array(observation, { maxLength: 60 }), fc.nat(), (observations, savedMs) => {
      const state = observations.reduce((so, each) => observe(so, each, SETTINGS), newCollectionState())
      const record = { state, savedMs }
      expect(collectionCodec.decode(collectionCodec.encode(record))).toEqual(record)
    }),
    { seed: SEED, numRuns: 300 }
  )
})

test('anything else is no record, or a bounded one', () => {
  const valid = collectionCodec.encode({
    state: observe(
      newCollectionState(),
      {
        poll: {
          holdersAsked: 3,
          witnesses: [{ peer: 'a', role: 'holder', tenureMs: 5, inUseForMs: 7, hashes: [0.5] }]
        },
        elapsedMs: 1,
        pointedAt: false
      },
      SETTINGS
    ),
    savedMs: 5
  })
  const damaged = fc.tuple(fc.nat(valid.length - 1), fc.nat(255), fc.nat(valid.length)).map(([at, byte, length]) => {
    const bytes = Uint8Array.from(valid)
    bytes[at] = byte
    return bytes.subarray(0, length < 10 ? valid.length : length)
  })
  const json = fc.json().map(text => Buffer.from(text))
  const fields = fc
    .dictionary(
      fc.constantFrom('state', 'savedMs', 'claims', 'circle', 'last', 'polls', 'what', 'leftMs'),
      fc.jsonValue()
    )
    .map(value => Buffer.from(JSON.stringify({ savedMs: 1, state: value, ...value })))
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 500 }), damaged, json, fields), bytes => {
      trashCodec.decode(bytes)
      sampleCodec.decode(bytes)
      const record = collectionCodec.decode(bytes)
      if (record === undefined) return
      expect(record.state.claims.length).toBeLessThanOrEqual(MAX_CLAIMS)
      for (const { leftMs } of record.state.claims) expect(leftMs).toBeLessThanOrEqual(MAX_CLAIM_MS)
      expect(collectionCodec.decode(collectionCodec.encode(record))).toEqual(record)
    }),
    { seed: SEED, numRuns: 3000 }
  )
})
