/**
 * A machine's boot, from the attach to the quiet after it: what is fetched for it, and what is learnt from it.
 *
 * The disk tells each first touch of a block. They are recorded, and when the boot is over the recording is kept as this peer's boot
 * profile of the image. From the attach on blocks are fetched ahead of the guest, along the best profile that is known; a better one
 * that comes meanwhile takes its place. One for each opened disk: a guest that restarts on an open disk does not touch anything for the first time.
 */
import { BootRecorder } from '../disk/boot-recorder.ts'
import type { TouchSink } from '../disk/first-touches.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { BootProfile } from '../image/boot-profile.ts'
import { type LocalImage, ZERO } from '../store/images.ts'
import type { ChosenProfile } from '../store/profiles.ts'
import type { BootAhead } from '../swarm/boot-ahead.ts'
import type { ReplayProgress } from '../swarm/profile-replay.ts'

/** How far a boot is along its profile, if it has one, and what was fetched beside it. */
export interface BootProgress {
  profile: (ReplayProgress & Pick<ChosenProfile, 'from' | 'voices'>) | null
  readAhead: { touched: number; untouched: number }
}

export interface ProfileKeeper {
  recorded(image: string, profile: BootProfile, options: { isFresh: boolean }): Promise<void>
  hasRecording(image: string): boolean
  choose(image: string, blocks: number): ChosenProfile | undefined
  onChange(listener: (image: string) => void): () => void
}

interface Components {
  profiles: ProfileKeeper
  swarm: { ahead(image: string): Promise<BootAhead> }
  clock: Pick<Clock, 'monotonicMs'>
  log: Log
}

type WatchedImage = Pick<LocalImage, 'id' | 'root' | 'locate'>

/** Touches that come before anything can be fetched ahead. */
const MAX_EARLY_TOUCHES = 1024

export class BootWatch implements TouchSink {
  readonly #image: WatchedImage
  readonly #components: Components
  readonly #isFresh: boolean
  readonly #startMs: number
  #recorder: BootRecorder | undefined = new BootRecorder()
  #ahead: BootAhead | undefined
  #early: [block: number, inBlock: number][] = []
  #followed: ChosenProfile | undefined
  #stopListening = () => {}
  #ended = false
  #firstTouchMs: number | undefined

  /** @param isFresh - whether the machine has no layer with a past over the image */
  constructor(image: WatchedImage, components: Components, options: { isFresh: boolean }) {
    this.#image = image
    this.#components = components
    this.#isFresh = options.isFresh
    this.#startMs = components.clock.monotonicMs()
  }

  /** When the guest touched the first block, by the monotonic clock. */
  get firstTouchMs(): number | undefined {
    return this.#firstTouchMs
  }

  touched(block: number, sinceAttachMs: number, inBlock: number): void {
    this.#firstTouchMs ??= this.#components.clock.monotonicMs()
    this.#recorder?.touched(block, sinceAttachMs)
    if (this.#ahead !== undefined) this.#ahead.touched(block, inBlock)
    else if (this.#early.length < MAX_EARLY_TOUCHES) this.#early.push([block, inBlock])
  }

  /** Fetches ahead from now on. */
  async start(): Promise<void> {
    const { swarm, profiles, log } = this.#components
    try {
      const ahead = await swarm.ahead(this.#image.id)
      if (this.#ended) return
      this.#ahead = ahead
    } catch (cause) {
      // The guest's own reads will say what is wrong.
      const { code, message } = asRowanError(cause)
      log.debug('nothing is fetched ahead of a guest', { image: this.#image.id, code, message })
      return
    }
    this.#stopListening = profiles.onChange(() => this.#follow())
    this.#follow()
    for (const [block, inBlock] of this.#early.splice(0)) this.#ahead.touched(block, inBlock)
    this.#ahead.begin()
  }

  /** How far the boot is along its profile, and whose that is; what was read ahead beside it. */
  get progress(): BootProgress | undefined {
    const view = this.#ahead?.view
    if (view === undefined) return undefined
    const { profile, readAhead } = view
    if (profile === undefined || this.#followed === undefined) return { profile: null, readAhead }
    const { from, voices } = this.#followed
    return { profile: { ...profile, from, voices }, readAhead }
  }

  /** To be called now and then: a boot that is over is kept. */
  async tend(): Promise<void> {
    const sinceAttachMs = this.#components.clock.monotonicMs() - this.#startMs
    if (this.#recorder?.isOver(sinceAttachMs)) await this.#keep(this.#recorder)
  }

  /** The disk is closed. A boot that was cut short is better than none. */
  async end(): Promise<void> {
    this.#ended = true
    this.#stopListening()
    this.#ahead?.stop()
    const recorder = this.#recorder
    this.#recorder = undefined
    if (recorder !== undefined && !this.#components.profiles.hasRecording(this.#image.id)) await this.#keep(recorder)
  }

  /** A change may be of another image, or of one like this one. */
  #follow(): void {
    try {
      const chosen = this.#components.profiles.choose(this.#image.id, this.#image.root.blocks)
      if (chosen === undefined || JSON.stringify(chosen) === JSON.stringify(this.#followed)) return
      this.#followed = chosen
      this.#ahead?.follow(chosen.profile)
    } catch (cause) {
      const { code, message } = asRowanError(cause)
      this.#components.log.warn('a boot profile cannot be followed', { image: this.#image.id, code, message })
    }
  }

  async #keep(recorder: BootRecorder): Promise<void> {
    this.#recorder = undefined
    const { profiles, log } = this.#components
    try {
      const profile = recorder.profile(block => this.#image.locate(block) !== ZERO)
      if (profile === undefined || profile.length === 0) return
      await profiles.recorded(this.#image.id, profile, { isFresh: this.#isFresh })
      log.info('a boot was recorded', { image: this.#image.id, blocks: profile.length, ms: profile.at(-1)?.atMs })
    } catch (cause) {
      // It is only advice.
      const { code, message } = asRowanError(cause)
      log.warn('the recording of a boot could not be kept', { image: this.#image.id, code, message })
    }
  }
}
