import { describe, expect, test } from 'vitest'
import { EMPTY_IMAGE, newDisk, withSnapshot } from '../../../src/disk/chain.ts'
import { Layer } from '../../../src/disk/layer.ts'
import { identityOf } from '../../../src/disk/layer-stack.ts'
import { LayersFolder, layerNames } from '../../../src/disk/layers-folder.ts'
import { MachineLayers } from '../../../src/disk/machine-layers.ts'
import { SimulatedFiles } from './support/simulated-files.ts'

const TAKEN = '2026-01-02T03:04:05.678Z'
let folders = 0

function settingsOf(more: object = {}) {
  return {
    folder: `/machine-${folders++}/layers`,
    machine: 'm',
    image: 'ab'.repeat(32),
    sizeBytes: 1024 * 1024,
    ...more
  }
}

describe('the folder of a machine with its layers', () => {
  test('is made for a machine that is new, with a layer for each of its disks, and found again', async () => {
    const files = new SimulatedFiles()
    const settings = settingsOf({ create: true, dataBytes: 65_536 })
    const { chain } = await LayersFolder.open(files, settings)
    expect(layerNames(chain)).toEqual(['0001', 'd0001'])
    expect(files.list(settings.folder).sort()).toEqual(['0001', 'chain.json', 'd0001'])
    const again = await LayersFolder.open(files, { ...settings, create: false })
    expect(again.chain).toEqual(chain)
    expect(LayersFolder.exist(files, settings.folder)).toBe(true)
    expect(LayersFolder.exist(files, '/machine-x/others')).toBe(false)
  })

  test('makes a data disk as it is asked for now, whatever an interrupted attempt has left of it', async () => {
    const files = new SimulatedFiles()
    const settings = settingsOf({ create: true })
    const { chain } = await LayersFolder.open(files, settings)
    const data = newDisk('data', EMPTY_IMAGE, 65_536)
    await Layer.create(`${settings.folder}/d0001`, identityOf(chain, data, 'd0001'), files)
    const components = { log: { debug: () => {}, info: () => {}, warn: () => {} }, bootId: 'b', files }
    const layers = await MachineLayers.open(components, { ...settings, create: false, dataBytes: 131_072 })
    expect(layers.stack('data')!.top.map.sectors).toBe(256)
    await layers.close()
    // What is in it now is kept, whatever becomes of the layer below or the chain.
    await files.deleteFolder(`${settings.folder}/0001`)
    const again = MachineLayers.open(components, { ...settings, create: false, dataBytes: 131_072 })
    await expect(again).rejects.toMatchObject({ code: 'LAYER_CORRUPT' })
    expect(files.exists(`${settings.folder}/0001`)).toBe(false)
    files.remove(`${settings.folder}/chain.json`)
    const lost = MachineLayers.open(components, { ...settings, create: false, dataBytes: 131_072 })
    await expect(lost).rejects.toMatchObject({ code: 'LAYER_CORRUPT' })
    expect(files.exists(`${settings.folder}/d0001`)).toBe(true)
  })

  test('is not made for a machine that had one: its layers are missing', async () => {
    await expect(LayersFolder.open(new SimulatedFiles(), settingsOf())).rejects.toMatchObject({ code: 'LAYER_CORRUPT' })
  })

  test('of another machine, image or size is refused', async () => {
    const files = new SimulatedFiles()
    const settings = settingsOf({ create: true })
    await LayersFolder.open(files, settings)
    for (const other of [{ machine: 'n' }, { image: 'cd'.repeat(32) }, { sizeBytes: 4096 }]) {
      await expect(LayersFolder.open(files, { ...settings, ...other })).rejects.toMatchObject({ code: 'LAYER_CORRUPT' })
    }
  })

  test('makes the tops that a chain needs, once, and knows what it needs no more', async () => {
    const files = new SimulatedFiles()
    const settings = settingsOf({ create: true })
    const { layersFolder, chain } = await LayersFolder.open(files, settings)
    const next = withSnapshot(chain, { note: '', taken: TAKEN, emptyTops: new Set() }).chain
    const made = new Set<string>()
    await layersFolder.makeTops(next, chain, made)
    expect([...made]).toEqual(['0002'])
    const before = files.events.length
    await layersFolder.makeTops(next, chain, made)
    expect(files.events).toHaveLength(before)
    // The chain was not written: to the old one the new top is a leftover.
    expect(layersFolder.leftovers(chain)).toEqual(['0002'])
    await layersFolder.write(next)
    expect(layersFolder.leftovers(next)).toEqual([])
    expect((await LayersFolder.open(files, settings)).chain).toEqual(next)
    layersFolder.discardFrozenLogs(next)
    expect(files.list(`${settings.folder}/0001`).sort()).toEqual(['data', 'map'])
    expect(files.list(`${settings.folder}/0002`).sort()).toEqual(['data', 'log', 'map'])
    await layersFolder.delete(['0002'])
    expect(files.exists(`${settings.folder}/0002`)).toBe(false)
  })
})
