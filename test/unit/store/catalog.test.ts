import { readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Level } from 'level'
import { afterEach, expect, test } from 'vitest'
import { bytesCodec, Catalog, jsonCodec, MARKS_TABLE } from '../../../src/store/catalog.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'
import { canMount, mountSmallDisk, unmountSmallDisks } from './tools.ts'

const open = new Set<Catalog>()

async function openCatalog(directory: string): Promise<Catalog> {
  const catalog = await Catalog.open(directory)
  open.add(catalog)
  return catalog
}

async function closeCatalog(catalog: Catalog): Promise<void> {
  open.delete(catalog)
  await catalog.close()
}

afterEach(async () => {
  try {
    for (const catalog of open) await closeCatalog(catalog)
  } finally {
    unmountSmallDisks()
    await removeFolders()
  }
})

const numbers = jsonCodec<number>()
const keysOf = async (entries: AsyncIterable<[string, unknown]>) => (await all(entries)).map(([key]) => key)

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

test('an entry is found again, now and after reopening', async () => {
  const folder = await temporaryFolder()
  const first = await openCatalog(folder)
  const table = first.table('things', jsonCodec<{ a: number }>())
  await table.put('key', { a: 1 })
  expect(await table.get('key')).toEqual({ a: 1 })
  expect(table.getSync('key')).toEqual({ a: 1 })
  expect(await table.get('other')).toBeUndefined()
  expect(table.getSync('other')).toBeUndefined()
  await closeCatalog(first)
  const second = await openCatalog(folder)
  expect(second.table('things', jsonCodec()).getSync('key')).toEqual({ a: 1 })
})

test('tables are apart, whatever their names and keys are', async () => {
  const catalog = await openCatalog(await temporaryFolder())
  const names = ['a', 'ab', 'a-b', 'b']
  for (const name of names) {
    for (const key of ['', '!', 'a', 'z', 'ü', '\u{1f600}'])
      await catalog.table(name, numbers).put(key, names.indexOf(name))
  }
  for (const name of names) {
    const entries = await all(catalog.table(name, numbers).entries())
    expect(entries.map(([key]) => key)).toEqual(['', '!', 'a', 'z', 'ü', '\u{1f600}'])
    expect(entries.every(([, value]) => value === names.indexOf(name))).toBe(true)
  }
  expect(() => catalog.table('A!', numbers)).toThrow(withCode('INTERNAL'))
})

test('entries come in order, by prefix, and as they were when the iteration began', async () => {
  const catalog = await openCatalog(await temporaryFolder())
  const table = catalog.table('t', numbers)
  for (const key of ['b2', 'a', 'b1', 'c', 'b\u{1f600}', 'b']) await table.put(key, 1)
  expect(await keysOf(table.entries())).toEqual(['a', 'b', 'b1', 'b2', 'b\u{1f600}', 'c'])
  expect(await keysOf(table.entries({ prefix: 'b' }))).toEqual(['b', 'b1', 'b2', 'b\u{1f600}'])
  expect(await keysOf(table.entries({ prefix: 'x' }))).toEqual([])
  const seen: string[] = []
  for await (const [key] of table.entries()) {
    seen.push(key)
    await table.put(`d${seen.length}`, 1)
    await table.delete(key)
  }
  expect(seen).toEqual(['a', 'b', 'b1', 'b2', 'b\u{1f600}', 'c'])
  expect((await keysOf(table.entries())).every(key => key.startsWith('d'))).toBe(true)
})

test('an iteration that is left early leaves nothing open', async () => {
  const catalog = await openCatalog(await temporaryFolder())
  const table = catalog.table('t', numbers)
  await catalog.write(Array.from({ length: 3000 }, (_, index) => table.putOp(String(index), index)))
  for await (const [key] of table.entries()) if (key === '1000') break
  await closeCatalog(catalog) // would reject with an iterator left
})

test('writes are done in the order in which they were asked for', async () => {
  const catalog = await openCatalog(await temporaryFolder())
  const table = catalog.table('t', numbers)
  const writes: Promise<void>[] = []
  for (let value = 0; value < 500; value++) {
    writes.push(table.put(`k${value % 7}`, value, { sync: value % 100 === 0 }))
    if (value % 50 === 3) writes.push(table.delete(`k${value % 7}`))
  }
  await Promise.all(writes)
  const expected = new Map<string, number>()
  for (let value = 0; value < 500; value++) {
    expected.set(`k${value % 7}`, value)
    if (value % 50 === 3) expected.delete(`k${value % 7}`)
  }
  expect(new Map(await all(table.entries()))).toEqual(expected)
})

test('close waits for what was asked for before', async () => {
  const folder = await temporaryFolder()
  const catalog = await openCatalog(folder)
  const table = catalog.table('t', numbers)
  const writes = Array.from({ length: 100 }, (_, index) => table.put(`k${index}`, index))
  await closeCatalog(catalog)
  await Promise.all(writes)
  const again = await openCatalog(folder)
  expect((await keysOf(again.table('t', numbers).entries())).length).toBe(100)
  await closeCatalog(again)
  await expect(table.put('late', 1)).rejects.toThrow(withCode('STORE_IO'))
  await expect(table.get('k1')).rejects.toThrow(withCode('STORE_IO'))
  expect(() => table.getSync('k1')).toThrow(withCode('STORE_IO'))
})

test('a second daemon on the same folder is refused with HOME_IN_USE', async () => {
  const folder = await temporaryFolder()
  await openCatalog(folder)
  await expect(Catalog.open(folder)).rejects.toThrow(withCode('HOME_IN_USE'))
  await expect(Catalog.repair(folder)).rejects.toThrow(withCode('HOME_IN_USE'))
})

test('a folder that cannot be one is refused with HOME_UNUSABLE', async () => {
  const file = join(await temporaryFolder(), 'file')
  await writeFile(file, 'x')
  await expect(Catalog.open(file)).rejects.toThrow(withCode('HOME_UNUSABLE'))
  await expect(Catalog.open(join(file, 'below'))).rejects.toThrow(withCode('HOME_UNUSABLE'))
})

test('an entry that cannot be read is CATALOG_CORRUPT, with its table and key', async () => {
  const catalog = await openCatalog(await temporaryFolder())
  await catalog.table('things', bytesCodec).put('broken', Buffer.from('{"a":'))
  const table = catalog.table('things', numbers)
  for (const read of [() => table.get('broken'), async () => table.getSync('broken'), () => all(table.entries())]) {
    await expect(read()).rejects.toThrow(withCode('CATALOG_CORRUPT'))
    await expect(read()).rejects.toThrow(/"broken" of the table things/)
  }
})

/** A catalog with 1,000 entries of which half are in a table file, half in the log; and a mark. */
async function filledFolder(): Promise<string> {
  const folder = await temporaryFolder()
  const catalog = await openCatalog(folder)
  const table = catalog.table('t', numbers)
  await catalog.table(MARKS_TABLE, numbers).put('pool', 1)
  await catalog.write(Array.from({ length: 500 }, (_, index) => table.putOp(`a${index}`, index)))
  await closeCatalog(catalog)
  const again = await openCatalog(folder)
  const later = again.table('t', numbers)
  await again.write(Array.from({ length: 500 }, (_, index) => later.putOp(`b${index}`, index)))
  await closeCatalog(again)
  return folder
}

const fileIn = async (folder: string, pattern: RegExp) =>
  join(folder, (await readdir(folder)).find(file => pattern.test(file))!)

async function hideTableFile(folder: string): Promise<void> {
  const file = await fileIn(folder, /\.ldb$/)
  await rename(file, `${file}.hidden`)
}

async function showTableFile(folder: string): Promise<void> {
  for (const file of await readdir(folder)) {
    if (file.endsWith('.hidden')) await rename(join(folder, file), join(folder, file.slice(0, -'.hidden'.length)))
  }
}

const damages: [string, (folder: string) => Promise<void>][] = [
  ['a MANIFEST of rubbish', async folder => writeFile(await fileIn(folder, /^MANIFEST/), Buffer.alloc(500, 0xa5))],
  ['an empty MANIFEST', async folder => truncate(await fileIn(folder, /^MANIFEST/), 0)],
  ['no MANIFEST', async folder => rm(await fileIn(folder, /^MANIFEST/))],
  ['a CURRENT of rubbish', async folder => writeFile(join(folder, 'CURRENT'), 'rubbish')],
  ['an empty CURRENT', async folder => writeFile(join(folder, 'CURRENT'), '')],
  ['no CURRENT', async folder => rm(join(folder, 'CURRENT'))],
  ['a table file that is gone', hideTableFile]
]

test.each(damages)('%s is CATALOG_CORRUPT, destroys nothing, and can be repaired', async (_what, damage) => {
  const folder = await filledFolder()
  await damage(folder)
  const before = (await readdir(folder)).filter(file => file.endsWith('.ldb'))
  await expect(openCatalog(folder)).rejects.toThrow(withCode('CATALOG_CORRUPT'))
  expect((await readdir(folder)).filter(file => file.endsWith('.ldb'))).toEqual(before)
  await showTableFile(folder)
  await Catalog.repair(folder)
  const catalog = await openCatalog(folder)
  const keys = await keysOf(catalog.table('t', numbers).entries())
  expect(keys.length).toBeGreaterThanOrEqual(500)
  expect(await keysOf(catalog.table(MARKS_TABLE, numbers).entries())).toEqual([])
  await catalog.table('t', numbers).put('new', 1, { sync: true })
})

test('a damaged table file is CATALOG_CORRUPT when it is read', async () => {
  const folder = await filledFolder()
  const path = await fileIn(folder, /\.ldb$/)
  const bytes = await readFile(path)
  await writeFile(path, bytes.fill(0xa5, 100, 200))
  const catalog = await openCatalog(folder)
  await expect(all(catalog.table('t', numbers).entries())).rejects.toThrow(withCode('CATALOG_CORRUPT'))
})

test('a log that was cut short by a crash loses its end and nothing else', async () => {
  const folder = await temporaryFolder()
  const catalog = await openCatalog(folder)
  const table = catalog.table('t', numbers)
  for (let index = 0; index < 20; index++) await table.put(String(index), index)
  const log = await fileIn(folder, /\.log$/)
  const bytes = await readFile(log)
  await closeCatalog(catalog)
  await writeFile(log, bytes.subarray(0, bytes.length - 5))
  const again = await openCatalog(folder)
  expect((await keysOf(again.table('t', numbers).entries())).length).toBe(19)
})

test.skipIf(!canMount)('a full disk loses nothing that was acknowledged (needs to mount a tmpfs)', async () => {
  const disk = mountSmallDisk(8)
  const folder = join(disk, 'catalog')
  const catalog = await openCatalog(folder)
  const table = catalog.table('t', bytesCodec)
  const acknowledged: string[] = []
  const put = async (key: string) => {
    await table.put(key, Buffer.alloc(1000, 1))
    acknowledged.push(key)
  }
  for (let index = 0; index < 100; index++) await put(`before${index}`)
  await writeFile(join(disk, 'filler'), Buffer.alloc(16 * 1024 * 1024)).catch(() => {}) // ENOSPC: the disk is full now
  let refused = 0
  // Concurrent writes: one may fail while the others wait behind it.
  const during = Array.from({ length: 3000 }, (_, index) => put(`during${index}`))
  for (const outcome of await Promise.allSettled(during)) {
    if (outcome.status === 'fulfilled') continue
    refused++
    expect(outcome.reason).toEqual(withCode('DISK_FULL'))
  }
  expect(refused).toBeGreaterThan(0)
  expect(await table.get('before0')).toBeDefined()
  await rm(join(disk, 'filler'))
  for (let index = 0; index < 100; index++) await put(`after${index}`)
  await closeCatalog(catalog)
  const again = await openCatalog(folder)
  const kept = new Set(await keysOf(again.table('t', bytesCodec).entries()))
  expect(acknowledged.filter(key => !kept.has(key))).toEqual([])
})

test.skipIf(!canMount)(
  'a log that failed is changed before anything else is acknowledged (needs to mount a tmpfs)',
  async () => {
    const disk = mountSmallDisk(8)
    const folder = join(disk, 'catalog')
    const catalog = await openCatalog(folder)
    const table = catalog.table('t', bytesCodec)
    await table.put('before', Buffer.alloc(1000))
    // One large write looks at the free space, and finds enough; then the disk fills up behind its back.
    await table.put('large', Buffer.alloc(100_000))
    await writeFile(join(disk, 'filler'), Buffer.alloc(16 * 1024 * 1024)).catch(() => {}) // ENOSPC: the disk is full now
    let failures = 0
    for (let index = 0; index < 10; index++) {
      await table.put(`during${index}`, Buffer.alloc(20_000)).catch((error: unknown) => {
        expect(error).toEqual(withCode('DISK_FULL'))
        failures++
      })
    }
    expect(failures).toBeGreaterThan(0)
    await rm(join(disk, 'filler'))
    for (let index = 0; index < 100; index++) await table.put(`after${index}`, Buffer.alloc(100))
    await closeCatalog(catalog)
    // As LevelDB finds it, without our own table in between.
    const level = new Level<string, Uint8Array>(folder, { valueEncoding: 'view' })
    const keys = await level.keys().all()
    await level.close()
    expect(keys.filter(key => key.startsWith('t!after')).length).toBe(100)
    expect(keys).toContain('t!before')
  }
)
