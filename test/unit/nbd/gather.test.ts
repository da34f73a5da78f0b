import { describe, expect, test } from 'vitest'
import { Gather } from '../../../src/nbd/gather.ts'

describe('Gather', () => {
  test('hands out a piece that is whole where it lies, without a copy', () => {
    const chunk = Buffer.from('..piece..')
    const gather = new Gather(16)
    expect(gather.take(chunk, 2, 5)).toBe(5)
    expect(gather.whole).toBe(true)
    expect(gather.piece.toString()).toBe('piece')
    expect(gather.piece.buffer).toBe(chunk.buffer)
  })

  test('puts a piece together from any parts, and then the next', () => {
    const gather = new Gather(16)
    expect(gather.take(Buffer.from('pi'), 0, 5)).toBe(2)
    expect(gather.whole).toBe(false)
    expect(gather.take(Buffer.from('e'), 0, 5)).toBe(1)
    expect(gather.take(Buffer.from('ce and'), 0, 5)).toBe(2)
    expect(gather.whole).toBe(true)
    expect(gather.piece.toString()).toBe('piece')
    expect(gather.take(Buffer.from('ab'), 0, 3)).toBe(2)
    expect(gather.take(Buffer.from('cd'), 0, 3)).toBe(1)
    expect(gather.piece.toString()).toBe('abc')
  })
})
