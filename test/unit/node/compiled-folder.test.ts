import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MAX_COMPILED_BYTES, pruneCompiled } from '../../../src/node/compiled-folder.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rw-compiled-'))
  for (const version of ['v24.1.0', 'v24.2.0']) {
    mkdirSync(join(folder, version))
    for (const file of ['a', 'b']) writeFileSync(join(folder, version, file), 'code')
  }
})
afterEach(() => rmSync(folder, { recursive: true }))

function fill(file: string, bytes: number): void {
  writeFileSync(join(folder, file), '')
  truncateSync(join(folder, file), bytes)
}

test('what earlier versions of Node left is removed, what is in use stays', async () => {
  await pruneCompiled(folder, 'v24.2.0')
  expect(readdirSync(folder)).toEqual(['v24.2.0'])
  expect(readdirSync(join(folder, 'v24.2.0'))).toEqual(['a', 'b'])
})

test('where it is not known what is in use, only what is too large is removed', async () => {
  fill('v24.1.0/c', MAX_COMPILED_BYTES - 8)
  fill('v24.2.0/c', MAX_COMPILED_BYTES)
  await pruneCompiled(folder, undefined)
  expect(readdirSync(folder)).toEqual(['v24.1.0'])
})

test('what is in use is removed as well where it is too large', async () => {
  fill('v24.2.0/c', MAX_COMPILED_BYTES)
  await pruneCompiled(folder, 'v24.2.0')
  expect(readdirSync(folder)).toEqual([])
})
