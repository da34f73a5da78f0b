/**
 * Parts of files in folders that others use, too: what is left of them, and what is never touched.
 */
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Log } from '../../../src/environment.ts'
import { lineLog, systemRandom } from '../../../src/node/system.ts'
import { bytesCodec, Catalog } from '../../../src/store/catalog.ts'
import { MAX_WAITING_PARTS, PartFiles } from '../../../src/store/part-files.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'

let home: string
let folder: string
let catalog: Catalog
let parts: PartFiles
let lines: string[]
let log: Log

beforeEach(async () => {
  home = await temporaryFolder()
  folder = await temporaryFolder()
  lines = []
  log = lineLog('debug', line => lines.push(line))
  catalog = await Catalog.open(home)
  parts = new PartFiles({ catalog, random: systemRandom, log })
})

afterEach(async () => {
  await catalog.close()
  await removeFolders()
})

/** What a daemon that starts again on this home has. */
const next = () => new PartFiles({ catalog, random: systemRandom, log })
const place = (name = 'disk.raw') => join(folder, name)
const left = async () => {
  let count = 0
  for await (const _ of catalog.table('parts', bytesCodec).entries()) count++
  return count
}

test('what is whole gets its name, and nothing else is left', async () => {
  const part = await parts.begin(place())
  await writeFile(part.path, 'whole')
  await part.finish()
  await part.end()
  expect(readdirSync(folder)).toEqual(['disk.raw'])
  expect(await readFile(place(), 'utf8')).toBe('whole')
  expect(await left()).toBe(0)
})

test('what came meanwhile is not overwritten, be it a file or a folder with something in it', async () => {
  const part = await parts.begin(place())
  await writeFile(part.path, 'late')
  await writeFile(place(), 'first')
  await expect(part.finish()).rejects.toMatchObject({ code: 'FILE_EXISTS' })
  await part.end()
  const whole = await parts.begin(place('images'))
  await mkdir(whole.path)
  await mkdir(place('images'))
  await writeFile(join(place('images'), 'root'), '')
  await expect(whole.finish()).rejects.toMatchObject({ code: 'FILE_EXISTS' })
  await whole.end()
  expect(readdirSync(folder).sort()).toEqual(['disk.raw', 'images'])
  expect(await readFile(place(), 'utf8')).toBe('first')
})

test('a folder gets its name, too', async () => {
  const part = await parts.begin(place('images'))
  await mkdir(part.path)
  await writeFile(join(part.path, 'root'), '')
  await part.finish()
  await part.end()
  expect(readdirSync(place('images'))).toEqual(['root'])
})

test('what a daemon did not live to finish goes when the next one starts; what is not its own stays', async () => {
  const killed = await parts.begin(place())
  await writeFile(killed.path, 'half')
  const killedFolder = await parts.begin(place('images'))
  await mkdir(killedFolder.path)
  await writeFile(join(killedFolder.path, 'pack'), 'half')
  // Of another home, and of nobody.
  const foreign = ['.disk.raw.rowan-part', '.disk.raw.0123456789abcdef.rowan-part', 'notes']
  for (const name of foreign) await writeFile(place(name), 'not ours')
  await next().sweep()
  expect(readdirSync(folder).sort()).toEqual(foreign.sort())
  expect(await left()).toBe(0)
})

test('what is being written stays, whoever begins or sweeps beside it', async () => {
  const first = await parts.begin(place())
  await writeFile(first.path, 'half')
  const second = await parts.begin(place())
  expect(second.path).not.toBe(first.path)
  await parts.sweep()
  expect(existsSync(first.path)).toBe(true)
  await second.end()
  await writeFile(first.path, 'whole')
  await first.finish()
  await first.end()
  expect(await readFile(place(), 'utf8')).toBe('whole')
})

test('where the folder is not there it waits until it is: the next export there removes it', async () => {
  const killed = await parts.begin(place())
  await writeFile(killed.path, 'half')
  await rename(folder, `${folder}-unplugged`)
  const after = next()
  await after.sweep()
  await rename(`${folder}-unplugged`, folder)
  const part = await after.begin(place())
  expect(readdirSync(folder)).toEqual([])
  await part.end()
})

test('no more wait for their folders than the limit', async () => {
  await mkdir(place('gone'))
  for (let count = 0; count < MAX_WAITING_PARTS + 2; count++) await parts.begin(join(place('gone'), `${count}`))
  await rm(place('gone'), { recursive: true })
  await next().sweep()
  expect(await left()).toBe(MAX_WAITING_PARTS)
})

test('a name of 255 bytes is no trouble', async () => {
  const long = place('ü'.repeat(127))
  const part = await parts.begin(long)
  await writeFile(part.path, 'whole')
  await part.finish()
  await part.end()
  expect(existsSync(long)).toBe(true)
})
