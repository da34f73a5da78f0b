/**
 * Runs a history of guest requests and of commands on snapshots over simulated files, and after each life tries the
 * moments at which it could have ended: what the machine shows, and each of its snapshots, must be what the guest was
 * told before the step that was under way, or after it.
 */
import { type Chain, mergeable, pathTo } from '../../../../src/disk/chain.ts'
import { readChain } from '../../../../src/disk/chain-file.ts'
import { ImageReader } from '../../../../src/disk/image-reader.ts'
import { MachineLayers } from '../../../../src/disk/machine-layers.ts'
import { RowanDisk } from '../../../../src/disk/rowan-disk.ts'
import { SnapshotReader } from '../../../../src/disk/snapshot-reader.ts'
import { RowanError } from '../../../../src/errors.ts'
import {
  type Content,
  type Contents,
  DISK_BYTES,
  equal,
  filled,
  fits,
  IMAGE,
  multiple,
  REGION_SECTORS,
  REGIONS,
  SECTOR_BYTES,
  SECTORS,
  single,
  type Told,
  union,
  widened
} from './chain-contents.ts'
import { type FilesEvent, SimulatedFiles, type SimulatedTree } from './simulated-files.ts'
import { components, TestImage } from './test-image.ts'

export type ChainStep =
  | { do: 'write' | 'trim'; region: number; from: number; length: number }
  | { do: 'flush' | 'reopen' | 'merge' | 'save-map' | 'fold' }
  /** `meanwhile`: writes of the guest while it is taken. */
  | { do: 'snapshot'; meanwhile: number }
  | { do: 'rollback' | 'discard'; which: number }
  | { do: 'crash'; how: 'death' | 'power-loss' }

/** `fails`: the n-th sync of a file or a folder in it. */
export type FailingStep = ChainStep & { fails?: number }

export interface ChainHistorySettings {
  random: () => number
  /** Of all moments of a life, how many are tried. */
  momentsTried: number
}

let lives = 0
const limits = { logAreaBytes: 2000, maxChangedPages: 100, maxLoggedBytes: 1024 }

export class ChainHistory {
  readonly #settings: ChainHistorySettings
  readonly #image = new TestImage(DISK_BYTES)
  #files = new SimulatedFiles()
  #life = ''
  #disk!: RowanDisk
  #told: Told
  #bootId = 'boot-0'
  #boots = 0
  #changes = 0
  #birth!: SimulatedTree
  /** What may be found if the life ends at an event or later, up to the next entry. */
  #moments: { from: number; told: Told[] }[] = []
  /** Syncs until one fails. */
  #untilFailure = Number.POSITIVE_INFINITY
  moments = 0
  failures = 0
  snapshotsTaken = 0
  merges = 0

  constructor(settings: ChainHistorySettings) {
    this.#settings = settings
    const image = new Map(SECTORS.map(sector => [sector, new Set([IMAGE])]))
    this.#told = { now: image, durable: image, snapshots: new Map() }
  }

  async run(steps: readonly FailingStep[]): Promise<void> {
    await this.#begin(this.#files.tree, true)
    for (const step of steps) {
      this.#untilFailure = step.fails ?? Number.POSITIVE_INFINITY
      if (step.do === 'crash') await this.#crash(step.how)
      else await this.#takeOrFail(step)
    }
    this.#untilFailure = Number.POSITIVE_INFINITY
    await this.#crash('death')
    await this.#crash('power-loss')
    await this.#disk.close()
  }

  /** After a sync that failed, the machine is opened again. */
  async #takeOrFail(step: Exclude<ChainStep, { do: 'crash' }>): Promise<void> {
    const { failures } = this
    try {
      await this.#take(step)
      // What failed was in the background, and the next request would hear of it.
      if (this.failures === failures) return
    } catch (error) {
      if (this.failures === failures || !(error instanceof RowanError)) throw error
    }
    const either = this.#moments.at(-1)!.told
    await this.#disk.close().catch(() => {})
    await this.#tryMoments()
    await this.#begin(this.#files.tree)
    const found = await this.#readNow(this.#files, this.#disk)
    const names = readChain(this.#files, this.#folder)!.snapshots.map(({ name }) => name)
    const snapshots = new Map<string, Contents>()
    for (const name of names) snapshots.set(name, await this.#readSnapshot(this.#files, name))
    const told = either.find(each => fits(each.now, each, found, snapshots))
    if (told === undefined) throw new Error('after a sync that failed, the machine is none of what it may be')
    const durable = new Map([...told.durable].map(([at, set]) => [at, union(set, new Set([found.get(at)!]))]))
    this.#become({ snapshots, now: multiple(found), durable })
    // As whoever asked for it would, and as the background does by itself.
    if (['merge', 'fold', 'flush', 'save-map'].includes(step.do)) await this.#take(step)
  }

  #maybeFail(operation: string): void {
    if (operation !== 'sync' && operation !== 'sync-folder') return
    if (this.#untilFailure-- !== 0) return
    this.failures++
    // Of what was not flushed before, each sector is old or new from now on.
    const { told } = this.#moments.at(-1)!
    this.#from(told.map(each => ({ ...each, now: widened(each), durable: widened(each) })))
    throw new RowanError('STORE_IO', 'injected')
  }

  async #take(step: Exclude<ChainStep, { do: 'crash' }>): Promise<void> {
    switch (step.do) {
      case 'write':
      case 'trim': {
        const { first, count } = place(step)
        return await this.#write(step.do, first, count)
      }
      case 'flush':
        return await this.#step({ ...this.#told, durable: this.#told.now }, async () => this.#disk.flush())
      case 'reopen':
        return await this.#step({ ...this.#told, durable: this.#told.now }, async () => {
          await this.#disk.close()
          this.#disk = await this.#open(this.#files, this.#bootId)
        })
      case 'snapshot':
        return await this.#snapshot(step.meanwhile)
      case 'rollback':
        return await this.#rollback(step.which)
      case 'discard':
        return await this.#discard(step.which)
      case 'merge':
      case 'fold':
        return await this.#step(this.#told, async () => {
          const layers = this.#disk.layers!
          if (step.do === 'fold') await layers.fold()
          for (let [pair] = mergeable(layers.chain); pair !== undefined; [pair] = mergeable(layers.chain)) {
            if (!(await layers.compaction.merge(pair, PACE))) throw new Error('the merge was given up')
            this.merges++
          }
        })
      case 'save-map':
        return await this.#step(this.#told, async () => {
          await this.#disk.layers!.compaction.saveMap('system', PACE)
        })
    }
  }

  async #write(kind: 'write' | 'trim', first: number, count: number): Promise<void> {
    const content = kind === 'trim' ? 0 : ++this.#changes
    const after = new Map(this.#told.now)
    const between = new Map(this.#told.now)
    const durable = new Map(this.#told.durable)
    for (let sector = first; sector < first + count; sector++) {
      after.set(sector, new Set([content]))
      between.set(sector, new Set([content, ...this.#told.now.get(sector)!]))
      durable.set(sector, new Set([content, ...this.#told.durable.get(sector)!]))
    }
    this.#from([{ ...this.#told, now: between, durable }])
    await this.#request(kind, first, count, content)
    this.#become({ ...this.#told, now: after, durable })
  }

  async #request(kind: 'write' | 'trim', first: number, count: number, content: Content): Promise<void> {
    const start = first * SECTOR_BYTES
    const length = Math.min((first + count) * SECTOR_BYTES, DISK_BYTES) - start
    if (kind === 'trim') await this.#disk.trim(start, length)
    else await this.#disk.write(start, filled(content, length))
    this.#disk.settle()
  }

  /** The snapshot may have any beginning of the writes that come meanwhile. */
  async #snapshot(meanwhile: number): Promise<void> {
    const before = this.#told
    const states: Map<number, ReadonlySet<Content>>[] = [new Map(before.now)]
    const durable = new Map(before.durable)
    const writes: { first: number; content: Content }[] = []
    for (let index = 0; index < meanwhile; index++) {
      const first = SECTORS[this.#choose(SECTORS.length)]!
      const content = ++this.#changes
      writes.push({ first, content })
      states.push(new Map(states.at(-1)!).set(first, new Set([content])))
      durable.set(first, new Set([content, ...durable.get(first)!]))
    }
    const name = `s${this.#nextSnapshot}`
    const during = new Map(
      SECTORS.map(sector => [sector, new Set(states.flatMap(state => [...state.get(sector)!]))] as const)
    )
    const withSnapshot = states.map(state => ({
      now: during,
      durable,
      snapshots: new Map([...before.snapshots, [name, single(state)]])
    }))
    this.#from([{ ...before, now: during, durable }, ...withSnapshot])
    const taken = this.#disk.snapshot({ note: `of ${this.#changes}`, taken: TAKEN })
    taken.catch(() => {})
    for (const { first, content } of writes) {
      await new Promise(resolve => setImmediate(resolve))
      await this.#request('write', first, 1, content)
    }
    const snapshot = await taken
    if (snapshot.name !== name) throw new Error(`the snapshot is ${snapshot.name}, not ${name}`)
    this.snapshotsTaken++
    const found = await this.#readSnapshot(this.#files, name)
    const state = states.find(each => equal(single(each), found))
    if (state === undefined) throw new Error(`snapshot ${name} is none of what it may be`)
    const after = states.at(-1)!
    const since = new Map([...after].map(([sector, content]) => [sector, union(content, state.get(sector)!)]))
    for (const { first, content } of writes) since.set(first, union(since.get(first)!, new Set([content])))
    this.#become({ now: after, durable: since, snapshots: new Map([...before.snapshots, [name, found]]) })
  }

  get #nextSnapshot(): number {
    return readChain(this.#files, this.#folder)!.nextSnapshot
  }

  async #rollback(which: number): Promise<void> {
    const names = [...this.#told.snapshots.keys()]
    const name = names[which % Math.max(1, names.length)]
    if (name === undefined) return
    const before = this.#told
    await this.#disk.close()
    const flushed = { ...before, durable: before.now }
    const next = `s${this.#nextSnapshot}`
    const content = multiple(before.snapshots.get(name)!)
    const left = new Map([...before.snapshots, [next, single(before.now)]])
    const either = [before.snapshots, left].map(snapshots => ({ now: content, durable: content, snapshots }))
    this.#from([flushed, ...either])
    const layers = await MachineLayers.open(this.#parts(this.#files), this.#layerSettings())
    const { name: leftName } = await layers.rollback(name, { note: '', taken: TAKEN })
    this.#disk = await this.#open(this.#files, this.#bootId)
    const found = await this.#readSnapshot(this.#files, leftName)
    if (!equal(found, single(before.now))) throw new Error(`what was left for ${name} is not in ${leftName}`)
    this.#become(either[leftName === next ? 1 : 0]!)
  }

  async #discard(which: number): Promise<void> {
    const names = [...this.#told.snapshots.keys()]
    const name = names[which % Math.max(1, names.length)]
    if (name === undefined) return
    const snapshots = new Map(this.#told.snapshots)
    snapshots.delete(name)
    await this.#step({ ...this.#told, snapshots }, () => this.#disk.discard(name))
  }

  /** While `work` runs, what is told is that of before or that of after. */
  async #step(after: Told, work: () => Promise<void>): Promise<void> {
    this.#from([this.#told, after])
    await work()
    this.#become(after)
  }

  #from(told: Told[]): void {
    this.#moments.push({ from: this.#files.events.length, told })
  }

  #become(told: Told): void {
    this.#told = told
    this.#from([told])
  }

  async #crash(how: 'death' | 'power-loss'): Promise<void> {
    await this.#tryMoments()
    const tree = this.#files.tree
    const left = how === 'death' ? tree.clone() : tree.afterPowerLoss(count => this.#choose(count))
    if (how === 'power-loss') this.#bootId = `boot-${++this.#boots}`
    await this.#begin(left)
    const found = await this.#readNow(this.#files, this.#disk)
    this.#compare(found, how === 'death' ? this.#told.now : this.#told.durable, `after ${how}`)
    const durable =
      how === 'death'
        ? new Map([...this.#told.durable].map(([sector, set]) => [sector, union(set, new Set([found.get(sector)!]))]))
        : multiple(found)
    this.#become({ ...this.#told, now: multiple(found), durable })
  }

  async #begin(tree: SimulatedTree, create = false): Promise<void> {
    this.#files = new SimulatedFiles(tree)
    this.#life = `/life-${lives++}`
    this.#disk = await this.#open(this.#files, this.#bootId, create)
    this.#files.events.length = 0
    this.#birth = tree.clone()
    this.#moments = [{ from: 0, told: [this.#told] }]
    this.#files.fault = operation => this.#maybeFail(operation)
  }

  async #tryMoments(): Promise<void> {
    const { events } = this.#files
    const step = Math.max(1, Math.floor(events.length / this.#settings.momentsTried))
    const replay = this.#birth.clone()
    let next = 0
    for (const [index, event] of events.entries()) {
      replay.apply(event as FilesEvent)
      while (this.#moments[next + 1] !== undefined && this.#moments[next + 1]!.from <= index) next++
      // Names are few among the events, and are what a chain is about.
      if (event.kind !== 'name' && event.kind !== 'sync-folder' && this.#choose(step) > 0) continue
      const { told } = this.#moments[next]!
      await this.#examine(replay.clone(), told, 'death')
      await this.#examine(
        replay.afterPowerLoss(count => this.#choose(count)),
        told,
        'power-loss'
      )
    }
  }

  async #examine(tree: SimulatedTree, told: Told[], how: 'death' | 'power-loss'): Promise<void> {
    this.moments++
    const files = new SimulatedFiles(tree)
    const life = this.#life
    this.#life = `/life-${lives++}`
    try {
      const disk = await this.#open(files, how === 'death' ? this.#bootId : 'boot-after')
      const found = await this.#readNow(files, disk)
      const { snapshots } = readChain(files, this.#folder)!
      const contents = new Map<string, Contents>()
      for (const { name } of snapshots) contents.set(name, await this.#readSnapshot(files, name))
      if (!told.some(each => fits(how === 'death' ? each.now : each.durable, each, found, contents))) {
        const says = told.map(each => JSON.stringify([...each.snapshots.keys()])).join(' or ')
        throw new Error(
          `after ${how} the machine is none of what it may be; it has ${[...contents.keys()]}, not ${says}`
        )
      }
      await disk.close()
    } finally {
      this.#life = life
    }
  }

  #compare(found: Contents, allowed: ReadonlyMap<number, ReadonlySet<Content>>, when: string): void {
    for (const [sector, content] of found) {
      if (allowed.get(sector)!.has(content)) continue
      throw new Error(`${when}, sector ${sector} is ${content}, none of ${[...allowed.get(sector)!]}`)
    }
  }

  async #readNow(_files: SimulatedFiles, disk: RowanDisk): Promise<Contents> {
    return await this.#read((offset, target) => disk.read(offset, target))
  }

  async #readSnapshot(files: SimulatedFiles, name: string): Promise<Contents> {
    const chain: Chain = readChain(files, this.#folder)!
    const place = chain.snapshots.find(each => each.name === name)!.at.system!
    const { disks } = chain
    if (pathTo(disks.system, place).some(layer => layer.name === disks.system.top)) throw new Error('it is not frozen')
    const parts = this.#parts(files)
    const reader = new SnapshotReader(
      { ...parts, reader: new ImageReader(parts) },
      this.#folder,
      chain,
      'system',
      place
    )
    const found = await this.#read((offset, target) => reader.read(offset, target))
    reader.close()
    return found
  }

  async #read(read: (offset: number, target: Uint8Array) => void | Promise<void>): Promise<Contents> {
    const found = new Map<number, Content>()
    for (const start of REGIONS) {
      const offset = start * SECTOR_BYTES
      const target = Buffer.alloc(Math.min(REGION_SECTORS * SECTOR_BYTES, DISK_BYTES - offset))
      await read(offset, target)
      for (let at = 0; at < target.length; at += SECTOR_BYTES) {
        const sector = start + at / SECTOR_BYTES
        found.set(sector, this.#contentOf(sector, target.subarray(at, at + SECTOR_BYTES)))
      }
    }
    return found
  }

  #contentOf(sector: number, bytes: Buffer): Content {
    const image = this.#image.expected(sector * SECTOR_BYTES, new Uint8Array(bytes.length))
    if (bytes.equals(image)) return IMAGE
    const content = bytes.readUInt32LE(0)
    if (!bytes.equals(filled(content, bytes.length))) throw new Error(`sector ${sector} is a mix`)
    return content
  }

  get #folder(): string {
    return `${this.#life}/layers`
  }

  #parts(files: SimulatedFiles) {
    return { ...components(this.#image, this.#bootId), files }
  }

  #layerSettings() {
    return { folder: this.#folder, machine: 'm', image: this.#image.id, sizeBytes: DISK_BYTES, limits }
  }

  #open(files: SimulatedFiles, bootId: string, create = false): Promise<RowanDisk> {
    const settings = { folder: this.#folder, machine: 'm', readOnly: false, create, limits, maxUnsavedLayers: 0 }
    return RowanDisk.open({ ...components(this.#image, bootId), files }, settings)
  }

  #choose(count: number): number {
    return Math.floor(this.#settings.random() * count)
  }
}

const PACE = { signal: new AbortController().signal, breathe: async () => {} }
const TAKEN = '2026-01-02T03:04:05.678Z'

function place({ region, from, length }: { region: number; from: number; length: number }) {
  const first = REGIONS[region]! + from
  return { first, count: Math.min(length, REGIONS[region]! + REGION_SECTORS - first) }
}
