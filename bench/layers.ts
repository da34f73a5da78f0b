/**
 * A machine with many layers: reads at 16 layers, snapshots, and opening 100 GiB with 256 layers.
 *
 *     npm run bench -- layers [--rounds 3] [--seconds 3] [--size 256]
 *
 * The layers of the second part are made of zeros (a map costs the same for zeros and for data): each has written in
 * 400 places of 8 MiB, chosen at random, so that a page of the map has come from 8 layers.
 */
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { EmptyImage } from '../src/disk/empty-image.ts'
import { RowanDisk } from '../src/disk/rowan-disk.ts'
import { lineLog, systemClock } from '../src/node/system.ts'
import { endProcesses } from '../test/tools/processes.ts'
import { layerRowText, measureLayers } from './lib/layer-row.ts'
import { describeMachine, saveResults, table } from './lib/report.ts'
import { median } from './lib/stats.ts'

const GIB = 1024 ** 3
const DISK_BYTES = 100 * GIB
const LAYERS = 256
const IMAGE = '0'.repeat(64)
const PLACES = 400
const PLACE_BYTES = 8 * 1024 * 1024
const READS = 2000

const { values: options } = parseArgs({
  options: { rounds: { type: 'string' }, seconds: { type: 'string' }, size: { type: 'string' } }
})
const rounds = Number(options.rounds ?? 3)
const sizeBytes = Number(options.size ?? 256) * 1024 * 1024

const machine = await describeMachine(['fio'])
const folder = mkdtempSync(join(tmpdir(), 'rw-'))
const log = lineLog('warn')
const nobody = {
  want: () => Promise.reject(new Error('nobody is asked')),
  readSync: () => {},
  warm: (_slot: number, _offset: number, _length: number, done: () => void) => done()
}
const pace = { signal: new AbortController().signal, breathe: async () => {} }

/** Nothing is merged or saved but what is measured. */
const open = () =>
  RowanDisk.open(
    {
      ...{ image: new EmptyImage(DISK_BYTES, IMAGE), pool: nobody, source: nobody, log, bootId: 'bench' },
      clock: { monotonicMs: () => systemClock.monotonicMs() }
    },
    { folder: join(folder, 'layers'), machine: 'bench', readOnly: false, create: true }
  )

const timed = async <T>(work: () => Promise<T>): Promise<[T, number]> => {
  const startMs = systemClock.monotonicMs()
  return [await work(), systemClock.monotonicMs() - startMs]
}

try {
  const reads = await measureLayers(folder, { rounds, seconds: Number(options.seconds ?? 3), sizeBytes })
  const { snapshotMs } = await makeLayers()
  const unsaved = await openings()
  const saver = await open()
  const [, saveMs] = await timed(() => saver.layers!.compaction.saveMap('system', pace))
  await saver.close()
  const saved = await openings()
  const shown = (ms: number) => `${ms.toFixed(ms < 10 ? 2 : 0)} ms`
  for (const row of reads) console.log(layerRowText(row))
  console.log(
    table([
      ['', 'measured', 'goal'],
      ['a snapshot, median of 255', shown(snapshotMs), ''],
      ['opening 100 GiB with 256 layers', shown(saved.openMs), '< 1000 ms'],
      [`then ${READS} reads at random`, shown(saved.readsMs), ''],
      ['the same without the saved map: opening', shown(unsaved.openMs), '< 1000 ms'],
      [`then ${READS} reads at random`, shown(unsaved.readsMs), ''],
      ['saving the map', shown(saveMs), '']
    ])
  )
  await saveResults('layers', {
    settings: { rounds, sizeBytes },
    machine,
    rows: { reads, snapshotMs, saved, unsaved, saveMs }
  })
} finally {
  await endProcesses()
  await rm(folder, { recursive: true, force: true })
}

async function makeLayers(): Promise<{ snapshotMs: number }> {
  const disk = await open()
  const times: number[] = []
  for (let layer = 0; layer < LAYERS; layer++) {
    for (let place = 0; place < PLACES; place++) {
      const at = Math.floor(Math.random() * (DISK_BYTES / PLACE_BYTES)) * PLACE_BYTES
      await disk.trim(at + Math.floor(Math.random() * 2000) * 4096, 4096)
    }
    if (layer === LAYERS - 1) break
    const [, ms] = await timed(() => disk.snapshot({ note: '', taken: new Date(systemClock.now()).toISOString() }))
    times.push(ms)
  }
  await disk.close()
  return { snapshotMs: median(times) }
}

/** Medians of opening, and of the first reads after it. */
async function openings(): Promise<{ openMs: number; readsMs: number }> {
  const measured: { openMs: number; readsMs: number }[] = []
  for (let round = 0; round < rounds; round++) {
    const [disk, openMs] = await timed(open)
    const target = new Uint8Array(4096)
    const [, readsMs] = await timed(async () => {
      for (let read = 0; read < READS; read++) {
        await disk.read(Math.floor(Math.random() * (DISK_BYTES / 4096)) * 4096, target)
      }
    })
    measured.push({ openMs, readsMs })
    await disk.close()
  }
  return { openMs: median(measured.map(each => each.openMs)), readsMs: median(measured.map(each => each.readsMs)) }
}
