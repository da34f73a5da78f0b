import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RowanError } from '../../src/errors.ts'
import { decodeProfile, encodeProfile, MAX_PROFILE_ENTRIES } from '../../src/image/boot-profile.ts'
import { sha256 } from '../../src/image/hash.ts'
import { decodeImageRoot, encodeImageRoot, makeImageRoot } from '../../src/image/image-root.ts'
import { decodeIndexNode, encodeIndexNode } from '../../src/image/index-node.ts'
import { parseApplianceRef } from '../../src/image/names.ts'
import { openDelegation, openLatest, sealLatest } from '../../src/image/release.ts'
import { encodeLatest } from '../../src/image/release-codec.ts'
import { sealRecord } from '../../src/image/signed.ts'
import { testLatest, testPublisher } from '../unit/image/records.ts'

const SEED = 20_261_121

/** Bytes from a valid message with some of them changed, cut, doubled or put in; or just any bytes. */
function damaged(valid: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat(valid.byteLength)
  const edit = fc.oneof(
    fc.record({ kind: fc.constant('flip' as const), at, value: fc.integer({ min: 1, max: 255 }) }),
    fc.record({ kind: fc.constant('cut' as const), at, value: fc.nat(16) }),
    fc.record({ kind: fc.constant('insert' as const), at, value: fc.nat(255) }),
    fc.record({ kind: fc.constant('double' as const), at, value: fc.nat(40) }),
    fc.record({ kind: fc.constant('huge length' as const), at, value: fc.nat(8) })
  )
  const edited = fc.array(edit, { minLength: 1, maxLength: 4 }).map(edits => {
    let bytes: Uint8Array = valid
    for (const { kind, at, value } of edits) {
      const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)]
      if (kind === 'flip' && tail.byteLength > 0)
        bytes = Buffer.concat([head, [tail[0]! ^ value], tail.subarray(1)].map(part => Uint8Array.from(part)))
      if (kind === 'cut') bytes = Buffer.concat([head, tail.subarray(value)])
      if (kind === 'insert') bytes = Buffer.concat([head, Uint8Array.of(value), tail])
      if (kind === 'double') bytes = Buffer.concat([head, tail.subarray(0, value), tail])
      if (kind === 'huge length') bytes = Buffer.concat([head, Buffer.alloc(value, 0xff), Uint8Array.of(0x0f), tail])
    }
    return bytes
  })
  return fc.oneof({ weight: 5, arbitrary: edited }, { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }) })
}

/** @returns whether it was accepted; any error but a RowanError with one of the codes fails the test */
function accepts(decode: () => unknown, ...codes: string[]): boolean {
  try {
    decode()
    return true
  } catch (error) {
    expectCode(error, codes)
    return false
  }
}

function expectCode(error: unknown, codes: string[]): void {
  if (error instanceof RowanError && codes.includes(error.code)) return
  throw new Error(`an error that should not be: ${String(error)}`, { cause: error })
}

const hashes = Array.from({ length: 40 }, (_, index) => sha256(Buffer.from(String(index))))

test('a damaged node is refused with INDEX_INVALID, or is what it says', () => {
  const valid = encodeIndexNode({
    level: 1,
    children: hashes.map((hash, index) => (index % 5 === 0 ? undefined : hash))
  })
  const expected = fc.record({ level: fc.integer({ min: -1, max: 4 }), childCount: fc.integer({ min: -1, max: 1100 }) })
  const wanted = fc.oneof(fc.constant({ level: 1, childCount: 40 }), expected)
  fc.assert(
    fc.property(damaged(valid), wanted, (bytes, place) => {
      if (!accepts(() => decodeIndexNode(bytes, place), 'INDEX_INVALID')) return
      // One node, one encoding: what was accepted is what the encoder writes.
      expect(Buffer.from(encodeIndexNode(decodeIndexNode(bytes, place)))).toEqual(Buffer.from(bytes))
    }),
    { numRuns: 20_000, seed: SEED }
  )
})

test('a damaged root is refused with INDEX_INVALID, or is what it says', () => {
  const valid = encodeImageRoot(makeImageRoot(1_610_612_736, 13_000, hashes[0]))
  fc.assert(
    fc.property(damaged(valid), bytes => {
      if (!accepts(() => decodeImageRoot(bytes), 'INDEX_INVALID')) return
      expect(Buffer.from(encodeImageRoot(decodeImageRoot(bytes)))).toEqual(Buffer.from(bytes))
    }),
    { numRuns: 50_000, seed: SEED }
  )
})

test('a damaged record is refused with RECORD_INVALID or SIGNATURE_INVALID', async () => {
  const publisher = await testPublisher(1)
  const latest = await sealLatest(testLatest(publisher), publisher.releaseKey)
  for (const [valid, open] of [
    [latest, openLatest],
    [publisher.sealedDelegation, openDelegation]
  ] as const) {
    await fc.assert(
      fc.asyncProperty(damaged(valid), async bytes => {
        const same = Buffer.compare(bytes, valid) === 0
        const error: unknown = await open(bytes).then(
          () => undefined,
          (thrown: unknown) => thrown
        )
        if (error === undefined) expect(same, 'a changed record was accepted').toBe(true)
        else expectCode(error, ['RECORD_INVALID', 'SIGNATURE_INVALID'])
      }),
      { numRuns: 4_000, seed: SEED }
    )
  }
})

test('a damaged payload is refused with RECORD_INVALID even when a publisher signed it', async () => {
  const publisher = await testPublisher(1)
  const valid = encodeLatest(testLatest(publisher))
  await fc.assert(
    fc.asyncProperty(damaged(valid), async payload => {
      const sealed = await sealRecord('rowan-latest', payload, publisher.releaseKey)
      try {
        await openLatest(sealed)
      } catch (error) {
        expectCode(error, ['RECORD_INVALID', 'SIGNATURE_INVALID'])
      }
    }),
    { numRuns: 3_000, seed: SEED }
  )
})

test('any text is an appliance, or APPLIANCE_REF_INVALID', () => {
  const near = fc.string({
    unit: fc.constantFrom('a', '1', '.', '-', '_', '/', '@', ':', 'A', '\n', 'ü'),
    maxLength: 30
  })
  fc.assert(
    fc.property(fc.oneof(near, fc.string({ unit: 'binary' })), text => {
      accepts(() => parseApplianceRef(text), 'APPLIANCE_REF_INVALID')
    }),
    { numRuns: 20_000, seed: SEED }
  )
})

test('a damaged boot profile is refused with PROFILE_INVALID, or is in bounds and in its one encoding', () => {
  const valid = encodeProfile(
    Array.from({ length: 60 }, (_, index) => ({ block: (index * 37) % 1000, atMs: index * 40 }))
  )
  fc.assert(
    fc.property(fc.oneof(damaged(valid), damaged(Uint8Array.of(1, 0))), bytes => {
      accepts(() => {
        const profile = decodeProfile(bytes, 1000)
        expect(profile.length).toBeLessThanOrEqual(MAX_PROFILE_ENTRIES)
        expect(new Set(profile.map(({ block }) => block)).size).toBe(profile.length)
        expect(profile.every(({ block }) => block >= 0 && block < 1000)).toBe(true)
        expect(Buffer.from(encodeProfile(profile))).toEqual(Buffer.from(bytes))
      }, 'PROFILE_INVALID')
    }),
    { seed: SEED, numRuns: 5000 }
  )
})
