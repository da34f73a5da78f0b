import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameFilter, forbiddenAddresses, MAX_FRAME_BYTES, mayLeave } from '../../../src/machine/frame-filter.ts'
import { arpFrame, framed, ipv4Frame, ipv6Frame } from './frames.ts'

const forbidden = forbiddenAddresses(['192.0.2.2', 'fd00::2', 'fe80::1'])

describe('a frame of the guest', () => {
  test.each(['192.0.2.1', '8.8.8.8', '10.0.0.1', '255.255.255.255', '224.0.0.251', '128.0.0.1', '1.0.0.1'])(
    'to %s may leave',
    address => {
      expect(mayLeave(ipv4Frame(address), forbidden)).toBe(true)
    }
  )

  test.each(['127.0.0.1', '127.255.255.254', '0.0.0.0', '0.1.2.3', '192.0.2.2'])(
    'to %s, the host, may not',
    address => {
      expect(mayLeave(ipv4Frame(address), forbidden)).toBe(false)
    }
  )

  test.each(['2001:db8::1', 'fe80::2', 'ff02::1', 'fd00::3'])('to %s may leave', address => {
    expect(mayLeave(ipv6Frame(address), forbidden)).toBe(true)
  })

  test.each(['::1', '::', '::ffff:127.0.0.1', '::127.0.0.1', '64:ff9b::7f00:1', 'fd00::2', 'fe80::1'])(
    'to %s, the host, may not',
    address => {
      expect(mayLeave(ipv6Frame(address), forbidden)).toBe(false)
    }
  )

  test('may ask who has an address, and is nothing else but IP', () => {
    expect(mayLeave(arpFrame(), forbidden)).toBe(true)
    const vlan = ipv4Frame('8.8.8.8')
    vlan.writeUInt16BE(0x8100, 12)
    expect(mayLeave(vlan, forbidden)).toBe(false)
  })

  test('that is cut short, or of another version than it says, may not leave', () => {
    for (const frame of [ipv4Frame('8.8.8.8'), ipv6Frame('2001:db8::1')]) {
      const header = frame === undefined ? 0 : frame.readUInt16BE(12) === 0x0800 ? 34 : 54
      expect(mayLeave(frame.subarray(0, header - 1), forbidden)).toBe(false)
      frame[14] = 0x55
      expect(mayLeave(frame, forbidden)).toBe(false)
    }
    expect(mayLeave(Buffer.alloc(0), forbidden)).toBe(false)
  })
})

test('frames come through whole and in order, however the stream is cut, and only those that may', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('8.8.8.8', '127.0.0.1', '10.1.2.3', '0.0.0.0'), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 40 }),
      (addresses, cuts) => {
        const filter = new FrameFilter(() => forbidden)
        const stream = Buffer.concat(addresses.map(address => framed(ipv4Frame(address))))
        const passed: Buffer[] = []
        for (let at = 0, cut = 0; at < stream.length; cut++) {
          const end = at + cuts[cut % cuts.length]!
          passed.push(filter.push(stream.subarray(at, end)))
          at = end
        }
        const allowed = addresses.filter(address => !/^(127|0)\./.test(address))
        expect(Buffer.concat(passed)).toEqual(Buffer.concat(allowed.map(address => framed(ipv4Frame(address)))))
        expect(filter.droppedFrames).toBe(addresses.length - allowed.length)
      }
    ),
    { seed: 7, numRuns: 300 }
  )
})

test('no bytes make it throw anything but a refusal, or pass a frame to the host', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), chunks => {
      const filter = new FrameFilter(() => forbidden)
      try {
        for (const chunk of chunks) filter.push(Buffer.from(chunk))
      } catch (error) {
        expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED' })
      }
    }),
    { seed: 8, numRuns: 500 }
  )
})

test('a frame longer than any is refused before its bytes are kept', () => {
  const filter = new FrameFilter(() => forbidden)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(MAX_FRAME_BYTES + 1)
  expect(() => filter.push(length)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
})
