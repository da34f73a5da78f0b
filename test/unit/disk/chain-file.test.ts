import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type DiskName, newChain, withSnapshot } from '../../../src/disk/chain.ts'
import { CHAIN_FILE, decodeChain, encodeChain, readChain, writeChain } from '../../../src/disk/chain-file.ts'
import { systemFiles } from '../../../src/disk/layer-files.ts'
import { SimulatedFiles } from './support/simulated-files.ts'

const moment = { note: 'n', taken: '2026-01-02T03:04:05.678Z', emptyTops: new Set<DiskName>() }
const chain = withSnapshot(withSnapshot(newChain('m', 'ab'.repeat(32), 1024), moment).chain, moment).chain

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rowan-chain-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** A chain's JSON, to be made wrong. */
interface Loose {
  format: unknown
  disks: { system: { top: unknown; next: unknown; layers: { name: unknown; parent: unknown }[] } }
  snapshots: { note: unknown; at: Record<string, unknown> }[]
}

/** A chain file whose hash is right, whatever is in it. */
function signed(change: (value: Loose) => void): Buffer {
  const value: Loose = JSON.parse(encodeChain(chain).toString()).chain
  change(value)
  const sha256 = createHash('sha256').update(JSON.stringify(value)).digest('hex')
  return Buffer.from(JSON.stringify({ sha256, chain: value }))
}

describe('the chain file', () => {
  test('keeps a chain, and is replaced whole', async () => {
    expect(readChain(systemFiles, folder)).toBeUndefined()
    await writeChain(systemFiles, folder, newChain('m', 'ab'.repeat(32), 1024))
    await writeChain(systemFiles, folder, chain)
    expect(readChain(systemFiles, folder)).toEqual(chain)
    expect(systemFiles.list(folder)).toEqual([CHAIN_FILE])
  })

  test('is synced before it is renamed, and the folder after', async () => {
    const files = new SimulatedFiles()
    files.makeFolder('/life/layers')
    files.events.length = 0
    await writeChain(files, '/life/layers', chain)
    const kinds = files.events.map(({ kind }) => kind)
    expect(kinds).toEqual(['make-file', 'name', 'write', 'sync-begin', 'sync-end', 'name', 'name', 'sync-folder'])
  })

  test.each([
    ['another hash', encodeChain(chain).toString().replace('"note":"n"', '"note":"m"'), 'its hash is wrong'],
    ['no JSON', '{', 'JSON'],
    ['a list', '[]', 'it is not an object'],
    [
      'another format',
      signed(value => {
        value.format = 2
      }),
      'its format is 2, not 1'
    ],
    [
      'a cycle',
      signed(({ disks }) => {
        disks.system.layers[0]!.parent = '0002'
      }),
      'stands before its parent'
    ],
    [
      'a parent that is not there',
      signed(({ disks }) => {
        disks.system.layers[1]!.parent = '0009'
      }),
      'before its parent'
    ],
    [
      'a top that is not there',
      signed(({ disks }) => {
        disks.system.top = '0009'
      }),
      'is none of its layers'
    ],
    [
      'a top under another',
      signed(({ disks }) => {
        disks.system.top = '0001'
      }),
      'is under another layer'
    ],
    [
      'a name that leads elsewhere',
      signed(({ disks }) => {
        disks.system.layers[0]!.name = '../../x'
      }),
      'name of a layer'
    ],
    [
      'a name twice',
      signed(({ disks }) => {
        disks.system.layers[1]!.name = '0001'
      }),
      'given twice'
    ],
    [
      'a number given already',
      signed(({ disks }) => {
        disks.system.next = 2
      }),
      '"next" is not valid'
    ],
    [
      'a snapshot of the top',
      signed(({ snapshots }) => {
        snapshots[0]!.at.system = '0003'
      }),
      'no frozen layer'
    ],
    [
      'a snapshot of nothing',
      signed(({ snapshots }) => {
        snapshots[0]!.at = {}
      }),
      'no place of the system disk'
    ],
    [
      'a note of two lines',
      signed(({ snapshots }) => {
        snapshots[0]!.note = 'a\n'
      }),
      'control characters'
    ],
    [
      'too many layers',
      signed(({ disks }) => {
        disks.system.layers.length = 257
      }),
      '257 entries'
    ]
  ])('with %s is refused', (_what, bytes, says) => {
    expect(() => decodeChain(Buffer.from(bytes))).toThrow(says)
    writeFileSync(join(folder, CHAIN_FILE), bytes)
    expect(() => readChain(systemFiles, folder)).toThrow(
      expect.objectContaining({ code: 'LAYER_CORRUPT', message: expect.stringContaining(CHAIN_FILE) })
    )
  })

  test('of a million entries is refused without being read', () => {
    const layers = JSON.stringify(Array.from({ length: 1_000_000 }, (_, index) => ({ name: String(index) })))
    writeFileSync(join(folder, CHAIN_FILE), `{"sha256":"","chain":{"layers":${layers}}}`)
    expect(() => readChain(systemFiles, folder)).toThrow(/bytes; a chain has/)
  })
})
