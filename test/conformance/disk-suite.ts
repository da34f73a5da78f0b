/**
 * What every BlockDevice does, whatever it is made of.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BlockDevice } from '../../src/disk/block-device.ts'

export interface MadeDevice {
  device: BlockDevice
  /** What the device holds at first, all of it. */
  content: Uint8Array
  /** What it fetches has no place to stay. */
  keepsNothing?: boolean
  /** The device, closed and opened again. */
  reopen?: () => Promise<BlockDevice>
  close?: () => Promise<void>
}

const outOfRange = expect.objectContaining({ code: 'OUT_OF_RANGE' })

/** Devices are made once for all tests of the suite; a model holds what each must read as. */
export function blockDeviceSuite(name: string, make: () => Promise<MadeDevice>): void {
  describe(`${name} as a BlockDevice`, () => {
    let made: MadeDevice
    let device: BlockDevice
    let model: Uint8Array
    beforeAll(async () => {
      made = await make()
      device = made.device
      model = made.content.slice()
    })
    afterAll(() => made.close?.())

    const check = async (offset = 0, length = device.sizeBytes) => {
      const target = new Uint8Array(length).fill(0xee)
      await device.read(offset, target)
      expect(Buffer.compare(target, model.subarray(offset, offset + length))).toBe(0)
    }
    const write = async (offset: number, length: number, value: number, options = {}) => {
      const data = Uint8Array.from({ length }, (_, index) => value + index)
      const before = data.slice()
      await device.write(offset, data, options)
      expect(data).toEqual(before)
      model.set(data, offset)
    }

    test('has the size of its content and reads as it', async () => {
      expect(device.sizeBytes).toBe(made.content.length)
      await check()
    })

    test('reads any range, into a part of a buffer alone', async () => {
      for (const [offset, length] of [
        [0, 1],
        [511, 2],
        [65_535, 2],
        [1000, 70_000],
        [device.sizeBytes - 1, 1]
      ] as const) {
        await check(offset, length)
      }
      const buffer = new Uint8Array(3000).fill(0xee)
      await device.read(5000, buffer.subarray(1000, 2000))
      expect(buffer.subarray(1000, 2000)).toEqual(model.subarray(5000, 6000))
      for (const around of [buffer.subarray(0, 1000), buffer.subarray(2000)]) {
        expect(around).toEqual(new Uint8Array(1000).fill(0xee))
      }
    })

    test('reads of nothing are nothing, also at the end', async () => {
      await device.read(device.sizeBytes, new Uint8Array(0))
    })

    test('refuses ranges that reach past the end', async () => {
      const { sizeBytes } = device
      for (const [offset, length] of [
        [sizeBytes, 1],
        [sizeBytes - 10, 11],
        [2 ** 50, 1]
      ] as const) {
        const data = new Uint8Array(length)
        await expect(async () => device.read(offset, data)).rejects.toThrow(outOfRange)
        if (device.readOnly) continue
        await expect(async () => device.write(offset, data)).rejects.toThrow(outOfRange)
        await expect(async () => device.trim(offset, length)).rejects.toThrow(outOfRange)
        await expect(async () => device.writeZeroes(offset, length)).rejects.toThrow(outOfRange)
      }
    })

    test('takes writes of any range, or refuses all when read-only', async () => {
      if (device.readOnly) {
        const refused = expect.objectContaining({ code: 'READ_ONLY' })
        await expect(async () => device.write(0, new Uint8Array(512))).rejects.toThrow(refused)
        await expect(async () => device.trim(0, 512)).rejects.toThrow(refused)
        await expect(async () => device.writeZeroes(0, 512)).rejects.toThrow(refused)
        await check()
        return
      }
      await write(4096, 4096, 1)
      await write(510, 4, 2)
      await write(65_000, 1500, 3)
      await write(device.sizeBytes - 1, 1, 4)
      await write(device.sizeBytes - 700, 700, 5)
      await write(9000, 0, 6)
      await check()
    })

    test('trimmed and zeroed ranges read as zeros, and nothing around them', async () => {
      if (device.readOnly) return
      for (const [offset, length] of [
        [8192, 512],
        [5000, 3000],
        [130_000, 1],
        [131_000, 70_000]
      ] as const) {
        await device.trim(offset, length)
        model.fill(0, offset, offset + length)
      }
      for (const [offset, length] of [
        [12_288, 4096],
        [20_001, 1],
        [device.sizeBytes - 5, 5]
      ] as const) {
        await device.writeZeroes(offset, length, { noHole: true })
        model.fill(0, offset, offset + length)
      }
      await check()
      await write(8200, 100, 7)
      await check()
    })

    /** Goes through the whole disk, a few extents at a time; every claim is checked against the model. */
    const checkExtents = (offset = 0, end = device.sizeBytes, maxExtents = 3) => {
      for (let at = offset; at < end; ) {
        const found = device.extents(at, end - at, maxExtents)
        expect(found.length).toBeGreaterThan(0)
        expect(found.length).toBeLessThanOrEqual(maxExtents)
        for (const { lengthBytes, isZero, isHole } of found) {
          expect(lengthBytes).toBeGreaterThan(0)
          if (isHole) expect(isZero).toBe(true)
          if (isZero) expect(model.subarray(at, at + lengthBytes).every(byte => byte === 0)).toBe(true)
          at += lengthBytes
        }
        expect(at).toBeLessThanOrEqual(end)
        const kinds = found.map(({ isHole, isZero, isLocal }) => `${isHole} ${isZero} ${isLocal}`)
        expect(kinds.every((kind, index) => kind !== kinds[index - 1])).toBe(true)
      }
    }

    test('tells what it is made of, and never calls zero what is not', () => {
      checkExtents()
      checkExtents(0, device.sizeBytes, 1)
      checkExtents(511, 70_001, 1000)
      expect(device.extents(device.sizeBytes, 0, 10)).toEqual([])
      expect(device.extents(device.sizeBytes - 1, 1, 10)).toMatchObject([{ lengthBytes: 1 }])
      expect(() => device.extents(device.sizeBytes - 1, 2, 10)).toThrow(outOfRange)
    })

    test('brings ahead any range, after which all of it is here', async () => {
      await device.cache(70_000, 100_000)
      if (made.keepsNothing !== true) {
        for (const { isLocal } of device.extents(70_000, 100_000, 1000)) expect(isLocal).toBe(true)
      }
      await device.cache(device.sizeBytes, 0)
      await expect(async () => device.cache(device.sizeBytes - 1, 2)).rejects.toThrow(outOfRange)
      await check()
    })

    test('zeros fast, or says at once that it cannot and leaves all as it was', async () => {
      if (device.readOnly) return
      await write(50_000, 3000, 3)
      try {
        await device.writeZeroes(50_200, 2000, { fast: true })
        model.fill(0, 50_200, 52_200)
      } catch (error) {
        expect(error).toMatchObject({ code: 'NOT_FAST' })
      }
      await check()
    })

    test('a buffer may be reused once its write is done', async () => {
      if (device.readOnly) return
      const data = new Uint8Array(2000).fill(1)
      await device.write(30_000, data)
      data.fill(2)
      model.fill(1, 30_000, 32_000)
      await check(29_000, 4000)
    })

    test('requests under way together each have their effect', async () => {
      if (device.readOnly) return
      const work: unknown[] = []
      for (let n = 0; n < 64; n++) {
        const offset = 40_000 + n * 777
        work.push(device.write(offset, new Uint8Array(777).fill(n)))
        model.fill(n, offset, offset + 777)
        if (n % 16 === 0) work.push(device.flush())
      }
      await Promise.all(work)
      await check()
    })

    test('flushes, writes through, and holds it all when it is opened again', async () => {
      await device.flush()
      if (device.readOnly) return
      await write(100_000, 1000, 8, { fua: true })
      await device.trim(100_100, 100, { fua: true })
      model.fill(0, 100_100, 100_200)
      await device.writeZeroes(100_300, 600, { fua: true })
      model.fill(0, 100_300, 100_900)
      await Promise.all([device.flush(), device.flush(), device.flush()])
      if (made.reopen !== undefined) device = await made.reopen()
      await check()
    })
  })
}
