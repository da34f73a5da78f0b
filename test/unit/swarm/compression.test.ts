import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { sha256 } from '../../../src/image/hash.ts'
import { CompressedCache, compressBlock, plainBlock, zstdPays } from '../../../src/swarm/compression.ts'
import { blockBytes } from './support.ts'

const far = { loopback: false, rttMs: 68, rateBytesPerSecond: undefined }

describe('whether zstd pays', () => {
  test('yes on a link that was not measured yet, unless it is near', () => {
    expect(zstdPays(far)).toBe(true)
    expect(zstdPays({ ...far, loopback: true, rttMs: 0.5 })).toBe(false)
  })

  test('no on a link that is faster than zstd', () => {
    expect(zstdPays({ ...far, rateBytesPerSecond: 150e6 })).toBe(true)
    expect(zstdPays({ ...far, rateBytesPerSecond: 250e6 })).toBe(false)
  })

  test('a loopback address with a long round trip is a tunnel', () => {
    expect(zstdPays({ loopback: true, rttMs: 68, rateBytesPerSecond: undefined })).toBe(true)
  })

  test('a near link has to be slow before it pays', () => {
    expect(zstdPays({ loopback: true, rttMs: 1, rateBytesPerSecond: 100e6 })).toBe(false)
    expect(zstdPays({ loopback: true, rttMs: 1, rateBytesPerSecond: 5e6 })).toBe(true)
  })
})

describe('blocks on the wire', () => {
  test('a block that does not shrink is not compressed', () => {
    expect(compressBlock(blockBytes(1, 1))).toBeUndefined()
  })

  test('a compressed block comes back', () => {
    const block = blockBytes(1, 1, true)
    expect(Buffer.compare(plainBlock(compressBlock(block)!, true), block)).toBe(0)
  })

  test('a bomb does not inflate past one block', () => {
    const bomb = zstdCompressSync(new Uint8Array(64 * 1024 * 1024))
    expect(bomb.byteLength).toBeLessThan(BLOCK_SIZE_BYTES)
    const before = process.memoryUsage().arrayBuffers
    expect(() => plainBlock(bomb, true)).toThrow(expect.objectContaining({ code: 'BLOCK_INVALID' }))
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024)
  })

  test('what is shorter than a block, or no zstd at all, is refused', () => {
    const invalid = expect.objectContaining({ code: 'BLOCK_INVALID' })
    expect(() => plainBlock(zstdCompressSync(new Uint8Array(100)), true)).toThrow(invalid)
    expect(() => plainBlock(new Uint8Array(100), true)).toThrow(invalid)
    expect(() => plainBlock(new Uint8Array(100), false)).toThrow(invalid)
  })
})

describe('compressed cache', () => {
  test('compresses a block once, and stays within its limit', () => {
    const cache = new CompressedCache(2000, { monotonicMs: () => 0 })
    const blocks = Array.from({ length: 50 }, (_, n) => blockBytes(2, n, true))
    const first = cache.compressed(sha256(blocks[0]!), blocks[0]!)
    expect(cache.compressed(sha256(blocks[0]!), blocks[0]!)).toBe(first)
    for (const block of blocks) cache.compressed(sha256(block), block)
    expect(cache.bytes).toBeLessThanOrEqual(2000)
    expect(cache.compressed(sha256(blocks[0]!), blocks[0]!)).not.toBe(first)
  })

  test('remembers that a block does not shrink', () => {
    const cache = new CompressedCache(100_000, { monotonicMs: () => 0 })
    const block = blockBytes(1, 1)
    expect(cache.compressed(sha256(block), block)).toBeUndefined()
    expect(cache.compressed(sha256(block), new Uint8Array(0))).toBeUndefined()
    expect(cache.bytes).toBeGreaterThan(0)
  })

  test('compresses thoroughly as long as that takes a small share of the time', () => {
    const folder = join(import.meta.dirname, '../../../src/swarm')
    const texts = Buffer.concat(
      readdirSync(folder, { withFileTypes: true }).flatMap(entry =>
        entry.isFile() ? [readFileSync(join(folder, entry.name))] : []
      )
    )
    const text = (n: number) => {
      const block = Buffer.from(texts.subarray(0, BLOCK_SIZE_BYTES))
      block.writeUInt32BE(n)
      return block
    }
    let nowMs = 0
    // Each look at the clock is 10 ms later: so long does a block take.
    const cache = new CompressedCache(10_000_000, { monotonicMs: () => (nowMs += 10) })
    const sizes = Array.from({ length: 60 }, (_, n) => cache.compressed(sha256(text(n)), text(n))!.byteLength)
    const quick = compressBlock(text(0))!.byteLength
    const isThorough = sizes.map(bytes => bytes < 0.995 * quick)
    expect(isThorough.slice(0, 20)).toEqual(Array(20).fill(true))
    const later = isThorough.slice(30).filter(Boolean).length
    expect(later).toBeGreaterThan(1)
    expect(later).toBeLessThan(8)
    nowMs += 60_000
    expect(cache.compressed(sha256(text(99)), text(99))!.byteLength).toBeLessThan(0.995 * quick)
  })
})
