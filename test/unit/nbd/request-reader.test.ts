import { describe, expect, test } from 'vitest'
import { BufferPool } from '../../../src/nbd/buffer-pool.ts'
import { COMMAND } from '../../../src/nbd/protocol.ts'
import { RequestReader } from '../../../src/nbd/request-reader.ts'
import { extendedRequestBytes, requestBytes } from '../../tools/nbd-client.ts'

const makeReader = ({ extended = false } = {}) => {
  const buffers = new BufferPool({
    maxBufferBytes: 2 ** 26,
    maxAllBufferBytes: 2 ** 40,
    maxIdleBufferBytes: 2 ** 20,
    guaranteedBufferBytes: 2 ** 20
  })
  return { buffers, reader: new RequestReader({ buffers }, { extended }) }
}

describe('RequestReader', () => {
  test('reads the fields of a header', () => {
    const { reader } = makeReader()
    reader.push(
      requestBytes(COMMAND.TRIM, 0x0123456789abcdefn, { flags: 3, offset: 2 ** 42 + 512, length: 0xfffffe00 })
    )
    expect(reader.readHeader()).toBe(true)
    expect(reader).toMatchObject({
      magicIsRight: true,
      flags: 3,
      command: COMMAND.TRIM,
      cookieHigh: 0x01234567,
      cookieLow: 0x89abcdef,
      offset: 2 ** 42 + 512,
      length: 0xfffffe00
    })
    expect(reader.readHeader()).toBe(false)
  })

  test('reads the fields of an extended header, whose length may be one of 64 bits', () => {
    const { reader } = makeReader({ extended: true })
    const trim = { flags: 1, offset: 2 ** 42 + 512, length: 2 ** 40 + 512 }
    reader.push(extendedRequestBytes(COMMAND.TRIM, 0x0123456789abcdefn, trim))
    expect(reader.readHeader()).toBe(true)
    expect(reader).toMatchObject({ magicIsRight: true, command: COMMAND.TRIM, payloadBytes: 0, ...trim })
    expect(reader.id).toEqual({
      ...{ command: COMMAND.TRIM, cookieHigh: 0x01234567, cookieLow: 0x89abcdef },
      ...{ offsetHigh: 2 ** 10, offsetLow: 512 }
    })
    reader.push(extendedRequestBytes(COMMAND.WRITE, 1n, { data: Buffer.from('payload') }))
    expect(reader.readHeader()).toBe(true)
    expect(reader.payloadBytes).toBe(7)
    expect(reader.readPayload()?.data.toString()).toBe('payload')
    reader.push(requestBytes(COMMAND.READ, 1n))
    reader.push(Buffer.concat([requestBytes(COMMAND.READ, 1n), Buffer.alloc(4)]))
    reader.readHeader()
    expect(reader.magicIsRight).toBe(false)
  })

  test('tells a wrong magic number', () => {
    const { reader } = makeReader()
    reader.push(requestBytes(COMMAND.READ, 1n, { magic: 0x25609514 }))
    reader.readHeader()
    expect(reader.magicIsRight).toBe(false)
  })

  test('begins in the middle of a chunk', () => {
    const { reader } = makeReader()
    reader.push(Buffer.concat([Buffer.alloc(10), requestBytes(COMMAND.FLUSH, 5n)]), 10)
    expect(reader.readHeader()).toBe(true)
    expect(reader.cookieLow).toBe(5)
    expect(reader.exhausted).toBe(true)
  })

  test('hands out a payload that is whole where it lies', () => {
    const { reader, buffers } = makeReader()
    const chunk = requestBytes(COMMAND.WRITE, 1n, { data: Buffer.from('payload') })
    reader.push(chunk)
    reader.readHeader()
    expect(reader.payloadNeedsBuffer).toBe(false)
    const payload = reader.readPayload()
    expect(payload?.data.toString()).toBe('payload')
    expect(payload?.data.buffer).toBe(chunk.buffer)
    expect(buffers.lentBytes).toBe(0)
  })

  test('puts a split payload together in one pooled buffer', () => {
    const { reader, buffers } = makeReader()
    const data = Buffer.from(Array.from({ length: 1000 }, (_, index) => index & 0xff))
    const bytes = Buffer.concat([requestBytes(COMMAND.WRITE, 1n, { data }), requestBytes(COMMAND.FLUSH, 2n)])
    reader.push(bytes.subarray(0, 100))
    reader.readHeader()
    expect(reader.payloadNeedsBuffer).toBe(true)
    expect(reader.readPayload()).toBeUndefined()
    reader.push(bytes.subarray(100, 500))
    expect(reader.payloadNeedsBuffer).toBe(false)
    expect(reader.readPayload()).toBeUndefined()
    reader.push(bytes.subarray(500))
    const payload = reader.readPayload()
    expect(payload?.data.equals(data)).toBe(true)
    expect(payload?.pooled?.length).toBe(buffers.lentBytes)
    expect(reader.readHeader()).toBe(true)
    expect(reader.command).toBe(COMMAND.FLUSH)
  })

  test('passes over a payload in any parts', () => {
    const { reader, buffers } = makeReader()
    const bytes = Buffer.concat([
      requestBytes(COMMAND.WRITE, 1n, { data: Buffer.alloc(1000) }),
      requestBytes(COMMAND.READ, 2n)
    ])
    reader.push(bytes.subarray(0, 500))
    reader.readHeader()
    expect(reader.skipPayload()).toBe(false)
    reader.push(bytes.subarray(500))
    expect(reader.skipPayload()).toBe(true)
    reader.readHeader()
    expect(reader.cookieLow).toBe(2)
    expect(buffers.lentBytes).toBe(0)
  })

  test('gives back what it was putting together when no more will come', () => {
    const { reader, buffers } = makeReader()
    reader.push(requestBytes(COMMAND.WRITE, 1n, { length: 1000 }).subarray(0, 28))
    reader.readHeader()
    reader.push(Buffer.alloc(10))
    reader.readPayload()
    expect(buffers.lentBytes).toBeGreaterThan(0)
    reader.release()
    expect(buffers.lentBytes).toBe(0)
  })
})
