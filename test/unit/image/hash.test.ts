import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { fromHex, quote, sameHash, sha256, toHex } from '../../../src/image/hash.ts'
import { withCode } from './with-code.ts'

test('hashes with SHA-256', () => {
  expect(toHex(sha256(Buffer.from('abc')))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  const view = Buffer.alloc(100, 7).subarray(10, 73)
  expect(Buffer.from(sha256(view))).toEqual(createHash('sha256').update(view).digest())
})

test('writes and reads hashes as 64 hex digits', () => {
  const hash = sha256(Buffer.from('x'))
  expect(toHex(fromHex(toHex(hash)))).toBe(toHex(hash))
  // A view into something larger.
  const large = Buffer.alloc(100)
  large.set(hash, 50)
  expect(toHex(large.subarray(50, 82))).toBe(toHex(hash))
})

test.each(['', 'ab', 'g'.repeat(64), 'A'.repeat(64), '0'.repeat(63), '0'.repeat(65), `${'0'.repeat(64)}\n`])(
  'refuses %j as a hash',
  text => {
    expect(() => fromHex(text)).toThrow(withCode('RECORD_INVALID'))
  }
)

test('tells hashes apart by every byte', () => {
  const hash = sha256(Buffer.from('x'))
  expect(sameHash(hash, Uint8Array.from(hash))).toBe(true)
  for (let index = 0; index < 32; index++) {
    const other = Uint8Array.from(hash)
    other[index]! ^= 1
    expect(sameHash(hash, other)).toBe(false)
  }
  expect(sameHash(hash, hash.subarray(0, 31))).toBe(false)
  expect(sameHash(new Uint8Array(0), new Uint8Array(0))).toBe(false)
})

test('quotes foreign text so that a terminal survives it', () => {
  expect(quote('a\u001b[2Jb')).toBe('"a\\u001b[2Jb"')
  expect(quote('x'.repeat(1000)).length).toBeLessThan(100)
})
