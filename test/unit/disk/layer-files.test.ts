import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemFiles } from '../../../src/disk/layer-files.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rowan-files-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const failsWith = (code: string, text: string) =>
  expect.objectContaining({ code, message: expect.stringContaining(text) })

test('a new file is sparse, takes bytes at any place and gives them back', async () => {
  const path = join(folder, 'file')
  const file = systemFiles.create(path, 1 << 30)
  file.writeSync(Uint8Array.of(9, 1, 2, 3, 9), 1, 3, 1_000_000)
  await file.write(Uint8Array.of(4, 5), 1_000_003)
  await file.sync()
  file.close()
  const again = systemFiles.open(path)
  const target = new Uint8Array(7)
  again.readSync(target, 1, 5, 1_000_000)
  expect(target).toEqual(Uint8Array.of(0, 1, 2, 3, 4, 5, 0))
  expect(again.sizeBytes).toBe(1 << 30)
  expect(statSync(path).blocks * 512).toBeLessThan(100_000)
  again.close()
})

test('errors name the file and say what they are', async () => {
  const path = join(folder, 'file')
  const file = systemFiles.create(path, 100)
  expect(() => file.readSync(new Uint8Array(10), 0, 10, 95)).toThrow(failsWith('STORE_IO', `${path} ends at 100`))
  expect(() => systemFiles.create(path, 100)).toThrow(failsWith('STORE_IO', path))
  expect(() => systemFiles.open(join(folder, 'none'))).toThrow(failsWith('STORE_IO', 'none'))
  file.close()
  const full = systemFiles.open('/dev/full')
  expect(() => full.writeSync(new Uint8Array(1), 0, 1, 0)).toThrow(failsWith('DISK_FULL', '/dev/full'))
  await expect(full.write(new Uint8Array(1), 0)).rejects.toThrow(failsWith('DISK_FULL', '/dev/full'))
  await expect(full.sync()).rejects.toThrow(failsWith('STORE_IO', '/dev/full'))
  full.close()
})

test('one that is closed touches no other file, which the system may have given its number', async () => {
  const file = systemFiles.create(join(folder, 'closed'), 100)
  file.close()
  const other = systemFiles.create(join(folder, 'other'), 100)
  const bytes = new Uint8Array(10).fill(7)
  expect(() => file.writeSync(bytes, 0, 10, 0)).toThrow(failsWith('STORE_IO', 'closed'))
  expect(() => file.readSync(bytes, 0, 10, 0)).toThrow(failsWith('STORE_IO', 'closed'))
  expect(() => file.syncSync()).toThrow(failsWith('STORE_IO', 'closed'))
  expect(() => file.allocatedBytes).toThrow(failsWith('STORE_IO', 'closed'))
  for (const work of [() => file.write(bytes, 0), () => file.read(bytes, 0), () => file.sync()]) {
    await expect(work()).rejects.toThrow(failsWith('STORE_IO', 'closed'))
  }
  expect(() => file.close()).toThrow(failsWith('STORE_IO', 'closed'))
  other.readSync(bytes, 0, 10, 0)
  expect(bytes).toEqual(new Uint8Array(10))
  other.close()
})
